"""``manage.py check`` tells what is wrong with the settings before anything runs."""

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections
from django.test import modify_settings, override_settings

from django_vtasks.errors import ConfigError

DATABASE = "django_vtasks.backends.db.DatabaseTaskBackend"
IMMEDIATE = "django_vtasks.backends.immediate.ImmediateBackend"


@pytest.fixture(autouse=True)
def only_the_default_database(monkeypatch):
    """Leave the servers out, whose databases the other tests make: Django's own checks connect to a MariaDB."""
    for alias in set(connections) - {"default"}:
        monkeypatch.delitem(connections.settings, alias)


def messages():
    """Return what Django's check framework says, with the ids of this package's own messages."""
    return [(message.id, message.msg) for message in run_checks() if (message.id or "").startswith("vtasks.")]


def test_good_settings_give_no_message():
    with override_settings(VTASKS_QUEUES=["emails"], VTASKS_BATCH_QUEUES={"widgets": {}}):
        assert messages() == []


def test_a_misspelt_setting_is_an_error_with_the_nearest_name():
    with override_settings(VTASKS_QUEUE=["emails"]):
        assert messages() == [
            ("vtasks.E001", "VTASKS_QUEUE is not a setting of django-vtasks. Did you mean 'VTASKS_QUEUES'?")
        ]


def test_a_wrong_value_is_an_error_that_names_the_setting():
    with override_settings(VTASKS_CONCURRENCY=0):
        assert messages() == [
            ("vtasks.E001", "VTASKS_CONCURRENCY must be a whole number, at least 1 (it is 0)."),
        ]


def test_every_wrong_setting_has_its_own_error():
    with override_settings(VTASKS_LEASE=-1, VTASKS_DLQ_CAP="x", VTASKS_SHEDULE={}):
        assert [identifier for identifier, _ in messages()] == ["vtasks.E001"] * 3


def test_the_command_fails_and_shows_the_error():
    with override_settings(VTASKS_QUEUE=["emails"]), pytest.raises(SystemCheckError) as raised:
        call_command("check")

    assert "(vtasks.E001) VTASKS_QUEUE is not a setting of django-vtasks." in str(raised.value)


def test_the_checks_can_be_run_by_their_tag():
    with override_settings(VTASKS_QUEUE=["emails"]):
        assert [message.id for message in run_checks(tags=["vtasks"])] == ["vtasks.E001"]


def test_the_command_passes_once_the_setting_is_right(capsys):
    with override_settings(VTASKS_QUEUES=["emails"]):
        call_command("check")

    assert "no issues" in capsys.readouterr().out


@pytest.mark.parametrize("alias", ["othr", "Default"])
def test_a_backend_that_is_not_in_tasks_is_an_error_with_the_nearest_alias(alias):
    nearest = {"othr": "other", "Default": "default"}[alias]

    with override_settings(TASKS={"default": {"BACKEND": IMMEDIATE}, "other": {"BACKEND": IMMEDIATE}}):
        with override_settings(VTASKS_BACKEND="other"):
            assert messages() == []
        with override_settings(VTASKS_BACKEND=alias):
            [(identifier, message)] = messages()

    assert identifier == "vtasks.E001"
    assert message.startswith("VTASKS_BACKEND ")
    assert repr(nearest) in message


@pytest.mark.parametrize("path", ["tests.app.nowhere.hook", "tests.app.tasks.no_such_hook", "tests.app.tasks.__doc__"])
def test_a_task_context_that_is_no_callable_to_be_imported_is_an_error(path):
    with override_settings(VTASKS_TASK_CONTEXT="contextlib.nullcontext"):
        assert messages() == []
    with override_settings(VTASKS_TASK_CONTEXT=path):
        [(identifier, message)] = messages()

    assert identifier == "vtasks.E001"
    assert message.startswith("VTASKS_TASK_CONTEXT ")


# Backends


def test_the_database_backend_without_its_tables_is_an_error():
    with modify_settings(INSTALLED_APPS={"remove": "django_vtasks.db"}):
        [error] = [message for message in run_checks() if message.id == "vtasks.E002"]

    assert "TASKS['default']" in error.msg
    assert error.hint == "Add 'django_vtasks.db' to INSTALLED_APPS and run migrate."


def test_the_immediate_backend_needs_no_tables():
    with (
        override_settings(TASKS={"default": {"BACKEND": IMMEDIATE}}),
        modify_settings(INSTALLED_APPS={"remove": "django_vtasks.db"}),
    ):
        assert messages() == []


@pytest.mark.parametrize(
    ("backend", "option", "hint"),
    [
        (DATABASE, "DATABASES", " Did you mean 'DATABASE'?"),
        (DATABASE, "database", ""),
        (DATABASE, "BROKER_URL", ""),
        (IMMEDIATE, "DATABASE", ""),
    ],
)
def test_an_unknown_option_of_a_backend_is_an_error_with_the_nearest_name(backend, option, hint):
    tasks = {"default": {"BACKEND": backend, "OPTIONS": {option: "default"}}}

    with override_settings(TASKS=tasks), pytest.raises(ConfigError) as raised:
        run_checks()

    assert str(raised.value) == f"TASKS['default']['OPTIONS'] has no option {option!r}.{hint}"


def test_a_database_that_is_not_in_databases_is_an_error():
    tasks = {"default": {"BACKEND": DATABASE, "OPTIONS": {"DATABASE": "defaults"}}}

    with override_settings(TASKS=tasks):
        [(_, message)] = messages()

    assert "'defaults'" in message
    assert "'default'" in message


# The schedule


def test_each_bad_entry_of_the_schedule_is_an_error_that_names_it():
    add = {"task": "tests.app.tasks.add"}
    schedule = {
        "fine": add | {"schedule": 60},
        "spring": add | {"schedule": "0 0 31 4 *"},
        "nowhere": {"task": "tests.app.tasks.no_such_task", "schedule": 60},
    }

    with override_settings(VTASKS_SCHEDULE=schedule):
        found = messages()

    assert [identifier for identifier, _ in found] == ["vtasks.E005"] * 2
    assert [message.partition(" ")[0] for _, message in found] == [
        "VTASKS_SCHEDULE['spring']",
        "VTASKS_SCHEDULE['nowhere']",
    ]


def test_a_schedule_that_is_no_dictionary_is_an_error_of_the_setting():
    with override_settings(VTASKS_SCHEDULE=["daily"]):
        [(identifier, message)] = messages()

    assert identifier == "vtasks.E001"
    assert message.startswith("VTASKS_SCHEDULE must be a dictionary")


# Channels


@pytest.fixture
def channels(tmp_path, monkeypatch):
    """Install something called Channels."""
    (tmp_path / "channels").mkdir()
    (tmp_path / "channels" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with modify_settings(INSTALLED_APPS={"append": "channels"}):
        yield


def test_beside_channels_a_warning_names_the_command_that_never_clashes(channels):
    [warning] = [message for message in run_checks() if message.id == "vtasks.W001"]

    assert not warning.is_serious()
    assert "'runworker'" in warning.msg
    assert warning.hint == "'manage.py vtasks_worker' is always the one of django-vtasks."


def test_without_channels_there_is_no_warning():
    assert messages() == []
