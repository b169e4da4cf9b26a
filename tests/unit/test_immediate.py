"""The backend for tests runs a task within its enqueue, and a batch when the test says so."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.tasks import TaskContext, TaskResult, TaskResultStatus, default_task_backend, task_backends
from django.tasks.exceptions import InvalidTask
from django.tasks.signals import task_enqueued, task_finished, task_started  # noqa: TID251  # received, not sent
from django.test import override_settings
from django.utils import timezone

from django_vtasks import task
from django_vtasks.backends.immediate import ImmediateBackend
from tests.app.receivers import connected, heard
from tests.app.tasks import accept, add, forget, move, multiply, plain_add, take

IMMEDIATE = {"BACKEND": "django_vtasks.backends.immediate.ImmediateBackend"}
TASKS = {"default": IMMEDIATE}
BATCHES = {"batch_queue": {"count": 100, "timeout": 5.0}, "other_batches": {"count": 2}}

calls: list[list[dict[str, Any]]] = []
"""The batches with which a function below was called."""


@pytest.fixture(autouse=True)
def settings():
    calls.clear()
    with override_settings(TASKS=TASKS, VTASKS_QUEUES=["emails"], VTASKS_BATCH_QUEUES=BATCHES):
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


@task(queue_name="default")
def batch(members):
    calls.append(members)


@task
async def abatch(members):
    await asyncio.sleep(0)
    calls.append(members)


@task
def failing_batch(members):
    raise ValueError("boom")


@task
def leaving_batch(members):
    raise SystemExit(3)


@task
def growing_batch(members):
    calls.append(members)
    if len(calls) == 1:
        in_batches(growing_batch).enqueue(again=True)


def in_batches(task, queue="batch_queue"):
    return task.using(queue_name=queue)


def pending(alias, queue):
    """Return what waits in a queue for this thread's backend object."""
    backend: Any = task_backends[alias]
    return backend.pending_batches[queue]


def value(result):
    return result.return_value


def kwargs_of(batch):
    return [member["kwargs"] for member in batch]


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


@pytest.mark.parametrize("queue", ["default", "emails", "batch_queue", "other_batches"])
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


def test_a_bulk_fills_batch_queues(backend):
    backend.enqueue_many([(batch, (), {"queue_name": "batch_queue", "item": item}) for item in range(3)])

    assert len(backend.pending_batches["batch_queue"]) == 3
    backend.flush_batch("batch_queue")
    assert [kwargs_of(members) for members in calls] == [[{"item": 0}, {"item": 1}, {"item": 2}]]


def test_a_wrong_item_is_told_by_its_position(backend):
    with pytest.raises(TypeError, match=r"^Item 1 "):
        backend.enqueue_many([(add, (1,), {}), (add,)])


def test_of_a_bulk_with_a_wrong_item_nothing_runs(backend):
    with heard(task_started) as started, pytest.raises(TypeError):
        backend.enqueue_many([(add, (1,), {}), (add,)])

    assert started == []


# Batches


def test_five_tasks_wait_until_they_are_flushed(backend):
    results = [in_batches(batch).enqueue(item_id=item) for item in range(5)]

    assert len(backend.pending_batches["batch_queue"]) == 5
    assert calls == []
    assert {result.status for result in results} == {TaskResultStatus.READY}

    backend.flush_batch("batch_queue")

    assert len(backend.pending_batches["batch_queue"]) == 0
    assert [kwargs_of(members) for members in calls] == [[{"item_id": item} for item in range(5)]]
    assert {result.status for result in results} == {TaskResultStatus.SUCCESSFUL}


def test_a_member_says_all_that_a_batch_function_may_want_to_know(backend):
    result = in_batches(batch).enqueue(1, two=2)
    backend.flush_batch("batch_queue")

    assert calls == [
        [
            {
                "id": result.id,
                "queue": "batch_queue",
                "func": "tests.unit.test_immediate.batch",
                "args": [1],
                "kwargs": {"two": 2},
                "enqueued_at": result.enqueued_at,
                "attempt": 1,
            }
        ]
    ]


def test_the_result_of_a_waiting_member_has_all_of_djangos_fields():
    before = timezone.now()
    result = in_batches(batch).enqueue(1, two=2)

    assert before <= result.enqueued_at <= timezone.now()
    assert len(result.id) == 32
    assert (result.started_at, result.finished_at, result.last_attempted_at) == (None, None, None)
    assert (result.args, result.kwargs, result.backend) == ([1], {"two": 2}, "default")
    assert (result.errors, result.worker_ids, result.attempts) == ([], [], 0)
    assert result.task == in_batches(batch)


def test_each_function_gets_its_members_in_one_call(backend):
    for item in range(3):
        in_batches(batch).enqueue(item=item)
        in_batches(abatch).enqueue(item=item + 10)
    backend.flush_batch("batch_queue")

    assert [kwargs_of(members) for members in calls] == [
        [{"item": 0}, {"item": 1}, {"item": 2}],
        [{"item": 10}, {"item": 11}, {"item": 12}],
    ]


def test_a_group_that_raises_fails_its_own_members_only(backend):
    good = [in_batches(batch).enqueue(), in_batches(abatch).enqueue()]
    bad = [in_batches(failing_batch).enqueue() for _ in range(2)]
    good.append(in_batches(batch).enqueue())
    backend.flush_batch("batch_queue")

    assert {result.status for result in good} == {TaskResultStatus.SUCCESSFUL}
    assert {result.status for result in bad} == {TaskResultStatus.FAILED}
    for result in bad:
        [error] = result.errors
        assert error.exception_class is ValueError
        assert "boom" in error.traceback
    assert backend.pending_batches["batch_queue"] == []


def test_a_group_that_tries_to_leave_has_failed_and_nothing_else(backend):
    result = in_batches(leaving_batch).enqueue()
    backend.flush_batch("batch_queue")

    assert result.status is TaskResultStatus.FAILED


def test_the_members_of_a_group_know_when_they_ran(backend):
    result = in_batches(batch).enqueue()
    backend.flush_batch("batch_queue")

    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert result.last_attempted_at == result.started_at
    assert (result.worker_ids, result.attempts, result.errors) == ([backend.worker_id], 1, [])


def test_what_a_batch_enqueues_waits_for_the_next_flush(backend):
    in_batches(growing_batch).enqueue(again=False)

    backend.flush_batch("batch_queue")
    assert len(backend.pending_batches["batch_queue"]) == 1

    backend.flush_batch("batch_queue")
    assert [kwargs_of(members) for members in calls] == [[{"again": False}], [{"again": True}]]


def test_each_batch_queue_is_flushed_by_itself(backend):
    in_batches(batch).enqueue()
    in_batches(batch, "other_batches").enqueue()

    backend.flush_batch("batch_queue")

    assert len(calls) == 1
    assert [len(backend.pending_batches[queue]) for queue in BATCHES] == [0, 1]


def test_all_batch_queues_are_flushed_at_once(backend):
    in_batches(batch).enqueue()
    in_batches(batch, "other_batches").enqueue()

    backend.flush_batches()

    assert [members[0]["queue"] for members in calls] == ["batch_queue", "other_batches"]
    assert [len(backend.pending_batches[queue]) for queue in BATCHES] == [0, 0]


async def test_batches_are_flushed_from_async_code_too(backend):
    await in_batches(abatch).aenqueue(item=1)
    await in_batches(batch).aenqueue(item=2)
    assert len(backend.pending_batches["batch_queue"]) == 2

    await backend.aflush_batch("batch_queue")
    assert [kwargs_of(members) for members in calls] == [[{"item": 1}], [{"item": 2}]]

    await in_batches(batch, "other_batches").aenqueue(item=3)
    await backend.aflush_batches()
    assert kwargs_of(calls[2]) == [{"item": 3}]


def test_flushing_nothing_runs_nothing(backend):
    backend.flush_batch("batch_queue")
    backend.flush_batches()

    assert calls == []


def test_a_batch_queue_without_tasks_has_an_empty_list(backend):
    assert backend.pending_batches["batch_queue"] == []


@pytest.mark.parametrize(("queue", "hint"), [("batch_queu", "batch_queue"), ("default", None), ("emails", None)])
async def test_flushing_what_is_no_batch_queue_is_a_value_error(queue, hint, backend):
    expected = f"{queue!r} is not a batch queue." + (f" Did you mean {hint!r}?" if hint else "")

    with pytest.raises(ValueError, match="is not a batch queue") as raised:
        await backend.aflush_batch(queue)
    assert str(raised.value) == expected
    with pytest.raises(ValueError, match="is not a batch queue"):
        await asyncio.to_thread(backend.flush_batch, queue)


def test_the_signals_tell_of_each_member(backend):
    with heard(task_enqueued) as enqueued, heard(task_started) as started, heard(task_finished) as finished:
        results = [in_batches(batch).enqueue(), in_batches(failing_batch).enqueue()]
        assert [len(enqueued), len(started), len(finished)] == [2, 0, 0]
        backend.flush_batch("batch_queue")

    expected = [{"sender": ImmediateBackend, "task_result": result} for result in results]
    assert enqueued == started == finished == expected


def test_the_exception_of_a_failed_group_can_be_seen_in_djangos_log(backend, caplog):
    in_batches(failing_batch).enqueue()
    backend.flush_batch("batch_queue")

    [record] = [record for record in caplog.records if record.name == "django.tasks" and record.levelname == "ERROR"]
    assert record.exc_info
    assert record.exc_info[0] is ValueError


@pytest.mark.parametrize("value", [object(), datetime.now(UTC)])
def test_a_member_that_json_cannot_say_is_a_type_error_and_does_not_wait(value, backend):
    with pytest.raises(TypeError):
        in_batches(batch).enqueue(value)

    assert backend.pending_batches["batch_queue"] == []


# Where batches wait


def test_every_thread_sees_what_waits(backend):
    in_batches(batch).enqueue()
    seen = []

    thread = threading.Thread(target=lambda: seen.append(len(pending("default", "batch_queue"))))
    thread.start()
    thread.join()

    assert seen == [1]


async def test_what_a_view_enqueues_in_its_own_asyncio_task_can_be_flushed_by_the_test(backend):
    await asyncio.gather(*(in_batches(batch).aenqueue(item=item) for item in range(3)))

    assert len(backend.pending_batches["batch_queue"]) == 3
    await backend.aflush_batch("batch_queue")
    assert sorted(member["kwargs"]["item"] for member in calls[0]) == [0, 1, 2]


def test_the_default_backend_is_the_same(backend):
    in_batches(batch).enqueue()

    assert default_task_backend.pending_batches is backend.pending_batches  # type: ignore[attr-defined]
    assert len(backend.pending_batches["batch_queue"]) == 1


def test_each_backend_has_its_own_batches():
    with override_settings(TASKS={"default": IMMEDIATE, "other": IMMEDIATE}):
        in_batches(batch).using(backend="other").enqueue()

        assert len(pending("default", "batch_queue")) == 0
        assert len(pending("other", "batch_queue")) == 1


def test_overridden_tasks_begin_with_empty_batches(backend):
    in_batches(batch).enqueue()

    with override_settings(TASKS=TASKS):
        assert len(pending("default", "batch_queue")) == 0


def test_overridden_batch_queues_begin_with_empty_batches(backend):
    with override_settings(VTASKS_BATCH_QUEUES={"batch_queue": {"count": 3}}):
        in_batches(batch).enqueue()
        assert len(backend.pending_batches["batch_queue"]) == 1

    with override_settings(VTASKS_BATCH_QUEUES={"batch_queue": {"count": 3}}):
        assert len(backend.pending_batches["batch_queue"]) == 0


# Settings that change


def test_a_batch_queue_may_be_made_by_its_setting_alone(backend):
    with override_settings(VTASKS_BATCH_QUEUES={"reports": {}}):
        result = in_batches(batch, "reports").enqueue()
        assert calls == []
        backend.flush_batch("reports")
        assert [member["id"] for member in calls[0]] == [result.id]
        with pytest.raises(ValueError, match="'batch_queue' is not a batch queue"):
            backend.flush_batch("batch_queue")

    with pytest.raises(ValueError, match="'reports' is not a batch queue"):
        backend.flush_batch("reports")


def test_a_batch_queue_may_be_made_among_the_queues(backend):
    with override_settings(VTASKS_QUEUES={"reports": {"batch": {}}}):
        assert in_batches(batch, "reports").enqueue().status is TaskResultStatus.READY


def test_a_queue_that_batches_no_more_runs_at_once(backend):
    in_batches(batch)

    with override_settings(VTASKS_BATCH_QUEUES={}, VTASKS_QUEUES=["batch_queue"]):
        assert add.using(queue_name="batch_queue").enqueue(1).return_value == 1


def test_tasks_made_before_the_override_follow_it():
    with override_settings(TASKS={"default": {"BACKEND": "django_vtasks.backends.db.DatabaseTaskBackend"}}):
        made_before = add.using(priority=5)

        with override_settings(TASKS=TASKS):
            assert made_before.enqueue(1).return_value == 1


def test_backend_objects_kept_from_before_follow_overridden_queues(backend):
    with override_settings(VTASKS_QUEUES=["cold"]):
        assert backend.enqueue(add.using(queue_name="cold"), [1], {}).return_value == 1
