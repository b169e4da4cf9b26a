"""The backend for tests runs a task within its enqueue."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from django.tasks import TaskContext, TaskResult, TaskResultStatus, task_backends
from django.tasks.exceptions import InvalidTask
from django.tasks.signals import task_enqueued, task_finished, task_started  # noqa: TID251  # received, not sent
from django.test import override_settings
from django.utils import timezone

from django_vtasks import task
from django_vtasks.backends.immediate import ImmediateBackend
from tests.app.receivers import connected, heard
from tests.app.tasks import accept, add, forget, move, multiply, plain_add, take

TASKS = {"default": {"BACKEND": "django_vtasks.backends.immediate.ImmediateBackend"}}


@pytest.fixture(autouse=True)
def settings():
    with override_settings(TASKS=TASKS, VTASKS_QUEUES=["emails"], VTASKS_BATCH_QUEUES={"batch_queue": {}}):
        yield


@pytest.fixture
def backend():
    return task_backends["default"]


@task
def fail(error="boom"):
    raise ValueError(error)


@task
async def afail():
    raise LookupError("boom")


@task
def leave(kind):
    raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt, "BaseException": BaseException}[kind](3)


@task
def not_json():
    return object()


@task(takes_context=True)
def look_at(context, name):
    return [name, context.attempt, context.task_result.id, context.task_result.status]


@task(takes_context=True)
async def alook_at(context: TaskContext, name):
    return [name, context.attempt, context.task_result.id, context.task_result.status]


@task
def nest(depth):
    return depth if depth == 0 else nest.enqueue(depth - 1).return_value + 1


def value(result):
    return result.return_value


# One task


def test_a_task_has_run_when_its_enqueue_returns():
    result = add.enqueue(1, b=2)

    assert isinstance(result, TaskResult)
    assert result.status is TaskResultStatus.SUCCESSFUL
    assert result.return_value == 3


def test_an_async_task_has_run_when_its_enqueue_returns():
    assert value(multiply.enqueue(2, b=3)) == 6


@pytest.mark.parametrize("task", [add, plain_add], ids=["ours", "Django's"])
def test_a_result_has_all_of_djangos_fields(task, backend):
    before = timezone.now()
    result = task.enqueue(1, b=2)
    after = timezone.now()

    assert result.task == task
    assert isinstance(result.id, str)
    assert 0 < len(result.id) < 64
    assert before <= result.enqueued_at <= result.started_at <= result.finished_at <= after
    assert result.last_attempted_at == result.started_at
    assert (result.args, result.kwargs, result.backend) == ([1], {"b": 2}, "default")
    assert (result.errors, result.worker_ids, result.attempts) == ([], [backend.worker_id], 1)
    assert result.is_finished


@pytest.mark.parametrize(
    ("enqueue", "path"),
    [(fail.enqueue, "builtins.ValueError"), (afail.enqueue, "builtins.LookupError")],
    ids=["def", "async def"],
)
def test_an_exception_becomes_a_failed_result(enqueue, path):
    result = enqueue()

    assert result.status is TaskResultStatus.FAILED
    assert result.finished_at >= result.started_at
    [error] = result.errors
    assert error.exception_class_path == path
    assert error.exception_class.__name__ == path.rpartition(".")[2]
    assert "boom" in error.traceback
    assert "Traceback" in error.traceback
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value


@pytest.mark.parametrize("kind", ["SystemExit", "BaseException"])
def test_a_task_that_tries_to_leave_has_failed_and_nothing_else(kind):
    result = leave.enqueue(kind)

    assert result.status is TaskResultStatus.FAILED
    assert result.errors[0].exception_class_path == f"builtins.{kind}"


def test_who_presses_ctrl_c_in_a_test_gets_out():
    with pytest.raises(KeyboardInterrupt):
        leave.enqueue("KeyboardInterrupt")


def test_a_return_value_that_is_not_json_fails_the_task():
    result = not_json.enqueue()

    assert result.status is TaskResultStatus.FAILED
    assert result.errors[0].exception_class_path == "builtins.TypeError"


@pytest.mark.parametrize("task", [look_at, alook_at], ids=["def", "async def"])
def test_a_task_that_takes_the_context_gets_it(task):
    result = task.enqueue("me")

    assert result.return_value == ["me", 1, result.id, "RUNNING"]


def test_a_task_may_enqueue_another():
    assert nest.enqueue(3).return_value == 3


async def test_aenqueue_runs_tasks_of_both_kinds():
    assert (await add.aenqueue(1, b=2)).return_value == 3
    assert value(await multiply.aenqueue(2, b=3)) == 6
    assert (await fail.aenqueue()).status is TaskResultStatus.FAILED


@pytest.mark.parametrize(
    "options",
    [
        {"unique": True},
        {"unique": True, "unique_key": "a"},
        {"unique": True, "unique_key": "a", "ttl": 60, "remove_unique_on_complete": False},
    ],
    ids=["mutex", "key", "throttle"],
)
def test_the_options_of_unique_tasks_are_accepted_and_ignored(options, backend):
    unique = add.using(**options)

    assert [unique.enqueue(1).return_value for _ in range(2)] == [1, 1]
    assert len(backend.enqueue_many([(unique, (1,), {})] * 2)) == 2
    assert not backend.supports_unique
    assert not backend.supports_throttle


@pytest.mark.parametrize("value", [object(), {1}, datetime.now(UTC), 1j])
def test_what_json_cannot_say_is_a_type_error_and_nothing_runs(value):
    with heard(task_started) as started, pytest.raises(TypeError):
        take.enqueue(value)

    assert started == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"], ids=["NaN", "infinity", "a lone surrogate"])
@pytest.mark.parametrize("queue", ["default", "batch_queue"])
def test_what_no_other_backend_takes_is_a_type_error_here_too(value, queue):
    with pytest.raises(TypeError):
        take.using(queue_name=queue).enqueue(value)


def test_arguments_arrive_as_on_every_backend():
    assert accept.enqueue(a=(1, 2), b=b"c").return_value == {"a": [1, 2], "b": "c"}


def test_a_task_cannot_be_put_off():
    with pytest.raises(InvalidTask, match="run_after"):
        add.using(run_after=timedelta(hours=1))


@pytest.mark.parametrize("queue", ["default", "emails", "batch_queue"])
def test_the_queues_of_the_settings_are_valid(queue):
    assert forget.using(queue_name=queue).enqueue().task.queue_name == queue


def test_an_unknown_queue_is_refused():
    with pytest.raises(InvalidTask, match=r"Add it to VTASKS_QUEUES\. Did you mean 'emails'\?"):
        add.using(queue_name="email")


def test_a_task_is_validated_again_at_its_enqueue():
    later_invalid = add.using(queue_name="emails")

    with override_settings(VTASKS_QUEUES=[]), pytest.raises(InvalidTask):
        later_invalid.enqueue(1)


# Signals


def test_the_signals_tell_of_each_step():
    with heard(task_enqueued) as enqueued, heard(task_started) as started, heard(task_finished) as finished:
        result = add.enqueue(1)

    assert enqueued == started == finished == [{"sender": ImmediateBackend, "task_result": result}]


async def test_the_signals_reach_async_receivers_of_async_callers():
    received = []

    async def receiver(sender, task_result, **kwargs):
        await asyncio.sleep(0)
        received.append(task_result.status)

    with connected(task_enqueued, receiver), connected(task_finished, receiver):
        await add.aenqueue(1)

    assert received == [TaskResultStatus.READY, TaskResultStatus.SUCCESSFUL]


# In bulk


def test_enqueue_many_runs_in_order_and_answers_in_order(backend):
    results = backend.enqueue_many([(add, (1,), {"b": 1}), (multiply, (2,), {"b": 3}), (fail, (), {}), (add, [5], {})])

    assert [result.status.value for result in results] == ["SUCCESSFUL", "SUCCESSFUL", "FAILED", "SUCCESSFUL"]
    assert [results[place].return_value for place in (0, 1, 3)] == [2, 6, 5]


async def test_aenqueue_many_does_the_same(backend):
    results = await backend.aenqueue_many([(add, (1,), {}), (multiply, (2,), {})])

    assert [result.return_value for result in results] == [1, 2]


@pytest.mark.parametrize("none", [[], (), iter([])])
async def test_nothing_in_bulk_gives_nothing(none, backend):
    assert backend.enqueue_many(none) == []
    assert await backend.aenqueue_many(none) == []


def test_a_bulk_may_be_a_generator(backend):
    results = backend.enqueue_many((add, (number,), {}) for number in range(3))

    assert [result.return_value for result in results] == [0, 1, 2]


def test_a_bulk_routes_by_queue_name(backend):
    results = backend.enqueue_many(
        [
            (forget, (), {"queue_name": "emails"}),
            (move, (1,), {"queue_name": "emails"}),
            (accept, (), {"queue_name": "x"}),
        ]
    )

    assert [result.task.queue_name for result in results] == ["emails", "default", "default"]
    assert [result.return_value for result in results] == [None, "1 to emails", {"queue_name": "x"}]


def test_a_wrong_item_is_told_by_its_position(backend):
    with pytest.raises(TypeError, match=r"^Item 1 "):
        backend.enqueue_many([(add, (1,), {}), (add,)])


def test_of_a_bulk_with_a_wrong_item_nothing_runs(backend):
    with heard(task_started) as started, pytest.raises(TypeError):
        backend.enqueue_many([(add, (1,), {}), (add,)])

    assert started == []


# Settings that change


def test_tasks_made_before_the_override_follow_it():
    with override_settings(TASKS={"default": {"BACKEND": "django_vtasks.backends.db.DatabaseTaskBackend"}}):
        made_before = add.using(priority=5)

        with override_settings(TASKS=TASKS):
            assert made_before.enqueue(1).return_value == 1


def test_backend_objects_kept_from_before_follow_overridden_queues(backend):
    with override_settings(VTASKS_QUEUES=["cold"]):
        assert backend.enqueue(add.using(queue_name="cold"), [1], {}).return_value == 1
