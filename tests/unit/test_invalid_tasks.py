"""A task with an option that no backend could honour is refused when it is made, and the message names the option."""

from datetime import UTC, datetime, timedelta

import pytest
from django.tasks.exceptions import InvalidTask, InvalidTaskBackend
from django.test import override_settings

from django_vtasks import VTask, task
from tests.app.tasks import add

DATABASE = "django_vtasks.backends.db.DatabaseTaskBackend"
TOMORROW = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture(autouse=True)
def settings():
    with override_settings(VTASKS_QUEUES=["emails", "high-priority"], VTASKS_BATCH_QUEUES={"widgets": {}}):
        yield


def greet(name):
    return f"Hello {name}"


def count_attempts(context):
    return context.attempt


@pytest.fixture(params=["decorator", "using", "constructor"])
def make(request):
    """Give a function that makes a task with some options, in each of the ways there are."""
    return {
        "decorator": lambda **options: task(**options)(greet),
        "using": task(greet).using,
        "constructor": lambda **options: VTask(func=greet, **options),
    }[request.param]


@pytest.mark.parametrize("priority", [101, -101, 10**30, 3.0, 3.5, True, False, "5", float("nan"), float("inf")])
def test_a_priority_that_is_none_is_refused_by_name(make, priority):
    with pytest.raises(InvalidTask, match=r"^priority must be a whole number between -100 and 100"):
        make(priority=priority)


@pytest.mark.parametrize("priority", [-100, -1, 0, 1, 100])
def test_every_priority_from_minus_one_hundred_to_one_hundred_is_valid(make, priority):
    assert make(priority=priority).priority == priority


@pytest.mark.parametrize("ttl", [0, -1, True, "60", float("nan"), float("inf"), 0.0, timedelta(seconds=60), [60]])
def test_a_time_to_live_that_is_none_is_refused_by_name(make, ttl):
    with pytest.raises(InvalidTask, match=r"^ttl must be a positive number of seconds"):
        make(unique=True, ttl=ttl)


@pytest.mark.parametrize("ttl", [1, 0.5, 86400])
def test_a_time_to_live_is_a_positive_number_of_seconds(make, ttl):
    assert make(unique=True, ttl=ttl).ttl == ttl


def test_throttling_without_a_time_to_live_is_refused_by_name(make):
    with pytest.raises(InvalidTask, match=r"^remove_unique_on_complete=False needs a ttl"):
        make(unique=True, remove_unique_on_complete=False)


@pytest.mark.parametrize("key", ["", 5, b"key", ["key"], "\ud800"])
def test_a_unique_key_that_is_none_is_refused_by_name(make, key):
    with pytest.raises(InvalidTask, match=r"^unique_key must be a non-empty string"):
        make(unique=True, unique_key=key)


@pytest.mark.parametrize("option", ["unique", "remove_unique_on_complete"])
def test_a_yes_or_no_that_is_neither_is_refused_by_name(make, option):
    with pytest.raises(InvalidTask, match=f"^{option} must be True or False"):
        make(**{option: "no"})


@pytest.mark.parametrize("run_after", ["tomorrow", 5, TOMORROW.date()])
def test_a_run_after_that_is_no_time_is_refused_by_name(run_after):
    with pytest.raises(InvalidTask, match=r"^run_after must be"):
        add.using(run_after=run_after)


def test_a_run_after_without_time_zone_is_refused_where_the_project_has_time_zones():
    with pytest.raises(InvalidTask, match=r"^run_after must be an aware datetime"):
        add.using(run_after=TOMORROW.replace(tzinfo=None))


def test_a_function_within_a_function_is_refused():
    def local():
        pass

    with pytest.raises(InvalidTask, match="defined at a module level"):
        task(local)
    with pytest.raises(InvalidTask, match="defined at a module level"):
        task(lambda: None)


def test_a_task_that_takes_the_context_has_it_as_its_first_argument():
    assert task(takes_context=True)(count_attempts).takes_context
    with pytest.raises(InvalidTask, match="first argument of 'context'"):
        task(takes_context=True)(greet)


def test_an_unknown_backend_is_refused(make):
    with pytest.raises(InvalidTaskBackend, match="nowhere"):
        make(backend="nowhere")


# Queues


@pytest.mark.parametrize("queue", ["default", "emails", "high-priority", "widgets"])
def test_the_queues_of_the_settings_are_valid(make, queue):
    assert make(queue_name=queue).queue_name == queue


@pytest.mark.parametrize(
    ("queue", "hint"), [("email", " Did you mean 'emails'?"), ("Default", " Did you mean 'default'?"), ("xyz", "")]
)
def test_an_unknown_queue_is_refused_with_the_setting_to_change_and_the_nearest_name(make, queue, hint):
    with pytest.raises(InvalidTask) as refused:
        make(queue_name=queue)

    assert str(refused.value) == f"Queue '{queue}' is not valid for backend. Add it to VTASKS_QUEUES.{hint}"


@pytest.mark.parametrize("queue", ["", 5, b"emails", ["emails"]])
def test_what_cannot_be_the_name_of_a_queue_is_refused(make, queue):
    with pytest.raises(InvalidTask, match=r"^Queue "):
        make(queue_name=queue)


@pytest.mark.parametrize("queue", ["emails ", " emails", "emails\x00", "emails\n", "\ud800", "q" * 101])
def test_a_name_that_some_store_takes_for_another_or_refuses_is_refused_even_where_any_name_is_valid(queue):
    with (
        override_settings(TASKS={"default": {"BACKEND": DATABASE, "QUEUES": []}}),
        pytest.raises(InvalidTask, match="1 to 100 printable characters, with no space at either end"),
    ):
        add.using(queue_name=queue)


def test_queues_of_the_backend_are_valid_instead_of_the_settings():
    with override_settings(TASKS={"default": {"BACKEND": DATABASE, "QUEUES": ["reports", "default"]}}):
        assert add.using(queue_name="reports").queue_name == "reports"
        with pytest.raises(InvalidTask) as refused:
            add.using(queue_name="report")

        assert "Add it to TASKS['default']['QUEUES']. Did you mean 'reports'?" in str(refused.value)
        with pytest.raises(InvalidTask):
            add.using(queue_name="emails")


def test_an_empty_list_of_queues_lets_every_name_pass():
    with override_settings(TASKS={"default": {"BACKEND": DATABASE, "QUEUES": []}}):
        assert add.using(queue_name="whatever").queue_name == "whatever"
        assert add.using(queue_name="x").queue_name == "x"


@pytest.mark.parametrize("queue", ["", "q" * 101, 5])
def test_no_backend_takes_a_name_that_no_store_can_keep(queue):
    with override_settings(TASKS={"default": {"BACKEND": DATABASE, "QUEUES": []}}), pytest.raises(InvalidTask):
        add.using(queue_name=queue)


def test_a_changed_setting_is_valid_at_once():
    with override_settings(VTASKS_QUEUES=["cold"]):
        assert add.using(queue_name="cold").queue_name == "cold"
        with pytest.raises(InvalidTask):
            add.using(queue_name="emails")
    with pytest.raises(InvalidTask):
        add.using(queue_name="cold")


def test_each_backend_has_its_own_queues():
    tasks = {"default": {"BACKEND": DATABASE}, "other": {"BACKEND": DATABASE, "QUEUES": ["reports"]}}

    with override_settings(TASKS=tasks):
        assert add.using(backend="other", queue_name="reports").backend == "other"
        with pytest.raises(InvalidTask, match=r"TASKS\['other'\]\['QUEUES'\]"):
            add.using(backend="other")
