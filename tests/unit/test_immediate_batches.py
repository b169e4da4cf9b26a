"""The backend for tests keeps the tasks of batch queues until the test has them run."""

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from django.tasks import TaskResultStatus, default_task_backend, task_backends
from django.tasks.signals import task_enqueued, task_finished, task_started  # noqa: TID251  # received, not sent
from django.test import override_settings
from django.utils import timezone

from django_vtasks import task
from django_vtasks.backends.immediate import ImmediateBackend
from django_vtasks.errors import BatchFailed
from tests.app.receivers import heard
from tests.app.tasks import add

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
def choosy_batch(members):
    """Say of the second member that it failed, and nothing of the third."""
    calls.append(members)
    return {members[0]["id"]: None, members[1]["id"]: ValueError("the second")}


@task
async def picky_batch(members):
    calls.append(members)
    raise BatchFailed({members[0]["id"]: KeyError("the first"), members[2]["id"]: ValueError("the third")})


@task
def mistaken_batch(members):
    raise BatchFailed({"stranger": ValueError("who?")})


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


def kwargs_of(batch):
    return [member["kwargs"] for member in batch]


# One queue


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
                "func": "tests.unit.test_immediate_batches.batch",
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


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (choosy_batch, [None, "ValueError: the second", None]),
        (picky_batch, ["KeyError: 'the first'", None, "ValueError: the third"]),
    ],
    ids=["returned", "raised"],
)
def test_a_function_may_say_of_each_member_what_became_of_it(backend, function, expected):
    results = [in_batches(function).enqueue(item=item) for item in range(3)]
    backend.flush_batch("batch_queue")

    assert len(calls) == 1
    assert [result.status is TaskResultStatus.FAILED for result in results] == [
        reason is not None for reason in expected
    ]
    for result, reason in zip(results, expected, strict=True):
        assert [error.traceback.splitlines()[-1] for error in result.errors] == ([] if reason is None else [reason])
        assert result.is_finished


def test_one_that_names_a_member_of_another_batch_fails_all(backend):
    results = [in_batches(mistaken_batch).enqueue() for _ in range(2)]
    backend.flush_batch("batch_queue")

    assert {result.status for result in results} == {TaskResultStatus.FAILED}
    assert {result.errors[0].exception_class for result in results} == {BatchFailed}


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


def test_a_bulk_fills_batch_queues(backend):
    backend.enqueue_many([(batch, (), {"queue_name": "batch_queue", "item": item}) for item in range(3)])

    assert len(backend.pending_batches["batch_queue"]) == 3
    backend.flush_batch("batch_queue")
    assert [kwargs_of(members) for members in calls] == [[{"item": 0}, {"item": 1}, {"item": 2}]]


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
    with override_settings(VTASKS_BATCH_QUEUES={}, VTASKS_QUEUES=["batch_queue"]):
        assert add.using(queue_name="batch_queue").enqueue(1).return_value == 1
