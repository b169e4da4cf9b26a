"""``manage.py check`` tells what is wrong with the settings before anything runs."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections
from django.tasks import task_backends
from django.test import modify_settings, override_settings

from django_vtasks import checks
from django_vtasks.errors import ConfigError
from django_vtasks.metrics import exposition

TIMEOUT = 60
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


@pytest.mark.parametrize(
    "backend", [DATABASE, "django_vtasks.backends.valkey.ValkeyTaskBackend"], ids=["database", "valkey"]
)
def test_a_backend_without_the_app_that_has_the_worker_is_an_error(backend):
    options = {"BROKER_URL": "valkey://localhost"} if backend != DATABASE else {}
    with (
        override_settings(TASKS={"default": {"BACKEND": backend, "OPTIONS": options}}),
        modify_settings(INSTALLED_APPS={"remove": "django_vtasks"}),
    ):
        [error] = task_backends["default"].check()

    assert (error.id, error.hint) == ("vtasks.E007", "Add 'django_vtasks' to INSTALLED_APPS.")


def test_the_app_of_the_tables_alone_is_enough_to_find_that_the_other_is_missing():
    program = """
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django_vtasks.db"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    TASKS={"default": {"BACKEND": "django_vtasks.backends.db.DatabaseTaskBackend"}},
)
django.setup()
from django.core.checks import run_checks
print(*[message.id for message in run_checks()])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT, check=False)

    assert (done.stdout, done.stderr) == ("vtasks.E007\n", "")


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


# Extras


@pytest.fixture
def installed(monkeypatch):
    """Give a function that makes these packages, and no others, as good as installed."""
    return lambda *packages: monkeypatch.setattr(
        exposition, "find_spec", lambda name: name if name in packages else None
    )


def test_the_valkey_backend_without_its_driver_is_an_error_that_says_what_to_install():
    program = """
import sys
sys.modules["libvalkey"] = None  # as if it were not installed
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django_vtasks"],
    TASKS={"default": {"BACKEND": "django_vtasks.backends.valkey.ValkeyTaskBackend"}},
)
django.setup()
from django.core.checks import run_checks
from django.tasks import task_backends
for message in run_checks():
    print(message.id, message.msg, message.hint)
try:
    task_backends["default"].broker
except Exception as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT, check=False)

    assert done.stderr == ""
    checked, used = done.stdout.splitlines()
    assert checked.startswith("vtasks.E006 TASKS['default'] uses ValkeyTaskBackend, and the package valkey is not")
    assert checked.endswith("pip install 'django-vtasks[valkey]'")
    assert used == "ValkeyTaskBackend needs the package valkey: pip install 'django-vtasks[valkey]'."


def test_a_port_for_metrics_without_prometheus_client_is_a_warning(installed):
    with override_settings(VTASKS_METRICS_PORT=9100):
        installed("prometheus_client")
        assert messages() == []
        installed()
        [(identifier, message)] = messages()

    assert identifier == "vtasks.W002"
    assert "prometheus-client" in message


def test_without_a_port_for_metrics_nobody_misses_prometheus_client(installed):
    installed()

    assert messages() == []


# Batch queues


def test_a_batch_queue_that_the_backend_does_not_take_is_a_warning():
    def with_queues(*queues):
        return override_settings(
            TASKS={"default": {"BACKEND": DATABASE, "QUEUES": list(queues)}},
            VTASKS_BATCH_QUEUES={"widgets": {}},
        )

    with with_queues("default", "widgets"):
        assert messages() == []
    with with_queues():  # any
        assert messages() == []
    with with_queues("default"):
        assert messages() == [
            (
                "vtasks.W003",
                "No task can be sent to the batch queue 'widgets': no backend in TASKS has it among its QUEUES.",
            )
        ]
    with override_settings(
        TASKS={
            "default": {"BACKEND": DATABASE, "QUEUES": ["default"]},
            "other": {"BACKEND": DATABASE, "QUEUES": ["widgets"]},
        },
        VTASKS_BATCH_QUEUES={"widgets": {}},
    ):
        assert messages() == []


def deploy_messages():
    return [
        (message.id, message.msg)
        for message in run_checks(include_deployment_checks=True)
        if (message.id or "").startswith("vtasks.")
    ]


def test_a_batch_queue_that_nobody_consumes_is_a_warning_where_the_project_is_deployed():
    with override_settings(TASKS={"default": {"BACKEND": IMMEDIATE}}):
        assert deploy_messages() == []
        with override_settings(VTASKS_BATCH_QUEUES={"widgets": {}, "parts": {}}):
            assert messages() == []
            [(identifier, message)] = deploy_messages()

    assert identifier == "vtasks.W004"
    assert "(widgets, parts)" in message


# Pools


def with_pool(monkeypatch, pool, engine="postgresql"):
    monkeypatch.setitem(connections.settings["default"], "ENGINE", f"django.db.backends.{engine}")
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", {"pool": pool})


@pytest.mark.parametrize("pool", [True, {"min_size": 2}, {"min_size": 2, "max_size": 19}], ids=str)
def test_a_pool_that_is_smaller_than_the_concurrency_is_a_warning(pool, monkeypatch):
    with_pool(monkeypatch, pool)

    [warning] = checks.check_pools()

    size = {True: 4}.get(pool) if pool is True else pool.get("max_size") or pool["min_size"]
    assert warning.id == "vtasks.W005"
    assert f"a pool of {size} connections, and 20 tasks" in warning.msg
    assert "at least 20" in str(warning.hint)


def test_what_is_no_number_or_another_drivers_pool_is_not_judged(monkeypatch):
    with_pool(monkeypatch, {"max_size": "4"})
    assert checks.check_pools() == []
    with_pool(monkeypatch, {"min": 1, "max": 4}, engine="oracle")
    assert checks.check_pools() == []


@pytest.mark.parametrize("pool", [{"max_size": 20}, {"min_size": 30}, False, None], ids=str)
def test_a_pool_that_is_large_enough_is_not(pool, monkeypatch):
    with_pool(monkeypatch, pool)

    assert checks.check_pools() == []


def test_the_queue_with_the_most_tasks_at_a_time_decides(monkeypatch):
    with_pool(monkeypatch, {"max_size": 20})

    with override_settings(VTASKS_QUEUES={"emails": {"concurrency": 21}, "reports": {"concurrency": 1}}):
        [warning] = checks.check_pools()

    assert "and 21 tasks" in warning.msg


# SQLite and several hosts


@pytest.fixture
def mounted(monkeypatch):
    """Give a function that mounts file systems of these kinds, and nothing else."""

    def mounted(*places):
        mounts = [SimpleNamespace(mountpoint=place, fstype=kind) for place, kind in [("/", "ext4"), *places]]
        monkeypatch.setattr("psutil.disk_partitions", lambda **_: mounts)

    for variable in checks.OWN_FILES:
        monkeypatch.delenv(variable, raising=False)
    return mounted


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "smb3", "fuse.sshfs", "ceph"])
def test_tasks_in_a_file_that_hosts_share_are_a_warning(kind, mounted, monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "NAME", "/share/db.sqlite3")
    mounted(("/share", kind), ("/share/db.sqlite3", "ext4"))
    assert deploy_messages() == []
    mounted(("/share", "autofs"), ("/share", kind), ("/shared", "ext4"))

    assert messages() == []
    [(identifier, message)] = deploy_messages()
    assert identifier == "vtasks.W006"
    assert f"its file system is {kind}" in message


@pytest.mark.parametrize(("variable", "where"), [("DYNO", "dyno"), ("KUBERNETES_SERVICE_HOST", "pod")])
def test_tasks_in_a_file_that_each_host_has_for_itself_are_a_warning(variable, where, mounted, monkeypatch):
    mounted()
    monkeypatch.setenv(variable, "worker.1")

    [(identifier, message)] = deploy_messages()

    assert identifier == "vtasks.W006"
    assert f"each {where} has files of its own" in message


def test_other_databases_and_backends_may_be_anywhere(mounted, monkeypatch):
    mounted()
    monkeypatch.setenv("DYNO", "worker.1")
    with override_settings(TASKS={"default": {"BACKEND": IMMEDIATE}}):
        assert deploy_messages() == []
    with monkeypatch.context() as patch:
        patch.setitem(connections.settings["default"], "ENGINE", "django.db.backends.postgresql")
        assert checks.check_sqlite_is_local() == []
    monkeypatch.setitem(connections.settings["default"], "NAME", ":memory:")
    assert checks.check_sqlite_is_local() == []
