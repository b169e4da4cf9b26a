"""What a task may do to itself (raise anything) and what a payload may say (anything): the worker goes on."""

import sys
import time

import pytest

from django_vtasks.envelope import Envelope
from tests.contract.unreadable import UNREADABLE
from tests.integration.probes import eventually
from tests.workapp import tasks

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

everywhere = pytest.mark.parametrize(
    "alias",
    ["default", "postgres", "mariadb", "valkey"],
    indirect=True,
    ids=["sqlite", "postgresql", "mariadb", "valkey"],
)

HERE = "tests.workapp.tasks"
RAISED = {
    "ValueError": "builtins.ValueError",
    "SystemExit": "builtins.SystemExit",
    "KeyboardInterrupt": "builtins.KeyboardInterrupt",
    "GeneratorExit": "builtins.GeneratorExit",
    "StopIteration": "builtins.StopIteration",
    "StopAsyncIteration": "builtins.StopAsyncIteration",
    "CancelledError": "asyncio.exceptions.CancelledError",
    "Doom": f"{HERE}.Doom",
    "Mute": f"{HERE}.Mute",
    "ExceptionGroup": "builtins.BaseExceptionGroup",
    "RecursionError": "builtins.RecursionError",
    "unserializable": "builtins.TypeError",
    "not finite": "builtins.TypeError",
    "not text": "builtins.ValueError",
    "long": "builtins.ValueError",
}
# Python itself turns this one, when a coroutine raises it, into another.
RAISED_BY_COROUTINES = RAISED | {"StopIteration": "builtins.RuntimeError"}


@everywhere
def test_whatever_a_task_raises_fails_that_task_and_nothing_else(stage):
    began = time.time()
    expected = {}
    for kind, exception in RAISED.items():
        expected[tasks.fail.enqueue(kind).id] = (kind, exception)
        expected[tasks.afail.enqueue(kind).id] = (kind, RAISED_BY_COROUTINES[kind])
        expected[tasks.afail_later.enqueue(kind).id] = (kind, RAISED_BY_COROUTINES[kind])
    expected[tasks.cancel_itself.enqueue().id] = ("cancels itself", "asyncio.exceptions.CancelledError")
    tasks.note.using(priority=-1).enqueue("after")
    tasks.anote.using(priority=-1).enqueue("after too")
    worker = stage.worker()

    stage.ledger.wait_for("after", "after too")
    stage.until_empty()
    failed = stage.failed()
    assert {task_id: (expected[task_id][0], entry.failure.exception) for task_id, entry in failed.items()} == expected
    for task_id, entry in failed.items():
        kind, exception = expected[task_id]
        assert (entry.queue, entry.attempts, entry.crashes) == ("default", 1, 0)
        assert entry.task.startswith(f"{HERE}.")
        assert began - 60 <= entry.failed_at <= time.time() + 60
        assert entry.failure.traceback.strip(), kind
        if kind not in {"Mute", "long"}:
            assert exception.rpartition(".")[2] in entry.failure.traceback
        if kind not in {"Mute", "long", "unserializable", "not finite", "cancels itself"}:
            assert "in _fail" in entry.failure.traceback or "_recurse" in entry.failure.traceback
        if kind == "ValueError":
            assert entry.failure.message == "no such address"
        [line] = worker.log_lines(f"id={task_id}", " failed ")
        assert exception in line
    assert worker.is_running


def test_a_message_of_several_lines_is_one_line_of_the_log(stage):
    result = tasks.fail.enqueue("several lines")
    worker = stage.worker()

    stage.until_empty()
    [line] = worker.log_lines(f"id={result.id}")
    assert "failed after" in line
    assert stage.failed()[result.id].failure.message == "first\nsecond\nno such address"


def test_a_failed_task_costs_no_slot(stage):
    """With two slots, two leaked ones would stop the worker."""
    for kind in RAISED:
        tasks.fail.enqueue(kind)
        tasks.afail.enqueue(kind)
    tasks.note.using(priority=-1).enqueue("after")
    tasks.anote.using(priority=-1).enqueue("after too")
    stage.worker("--concurrency", "2")

    stage.ledger.wait_for("after", "after too")
    stage.until_empty()
    assert len(stage.failed()) == 2 * len(RAISED)


@pytest.mark.parametrize("task", [tasks.fail, tasks.afail, tasks.afail_later], ids=["def", "async", "async later"])
def test_an_exception_whose_description_raises_anything_at_all_is_a_failed_task(stage, task):
    result = task.enqueue("Spiteful")
    tasks.note.using(priority=-1).enqueue("after")
    tasks.anote.using(priority=-1).enqueue("after too")
    stage.worker("--concurrency", "1")

    stage.ledger.wait_for("after", "after too")
    stage.until_empty()
    assert stage.failed()[result.id].failure.exception == f"{HERE}.Spiteful"


def corrupted(stage, payload):
    result = tasks.note.enqueue("corrupted")
    stage.store.corrupt(result.id, payload)
    return result.id


def named(stage, path, *args):
    """Push a payload that names any path, as somebody with access to the store can."""
    envelope = Envelope(
        id=f"{abs(hash(path)):032x}"[:32], task=path, queue="default", args=list(args), kwargs={}, enqueued_at=0.0
    )
    assert stage.broker.push([envelope]) == [True]
    return envelope.id


@everywhere
def test_a_payload_that_cannot_be_read_goes_to_the_failed_list_with_the_reason(stage):
    problems = {corrupted(stage, payload): name for name, payload in UNREADABLE.items()}
    tasks.note.enqueue("other")
    worker = stage.worker()

    stage.ledger.wait_for("other")
    stage.until_empty()
    assert stage.ledger.counts() == {"other": 1}
    failed = stage.failed()
    assert failed.keys() == problems.keys()
    for task_id, entry in failed.items():
        assert entry.failure.exception.startswith("django_vtasks.errors.Payload"), problems[task_id]
        assert "payload" in entry.failure.message.lower()
    assert worker.is_running


def test_a_payload_beyond_the_limit_is_not_unpacked(stage):
    big = zstd.compress(b"[" + b"1," * (100 * 1024 * 1024) + b"1]")
    task_id = corrupted(stage, big)
    worker = stage.worker()

    stage.until_empty()
    assert "16,777,216" in stage.failed()[task_id].failure.message
    assert worker.is_running


@everywhere
def test_only_registered_tasks_run_and_no_path_is_imported(stage):
    paths = [
        "os.system",
        "builtins.exec",
        f"{HERE}.not_a_task",
        f"{HERE}.Doom",
        f"{HERE}.no_such_task",
        "tests.workapp.missing.task",
        "antigravity.fly",
        "poplib.POP3",
        "nodots",
        ".",
        "..",
        "",
        "tests.workapp.tasks.note.func",
        "\x00.\x00",
    ]
    touched = stage.ledger.directory / "touched.1"
    ids = {named(stage, path, f"touch {touched}"): path for path in paths}
    tasks.loaded.using(priority=-1).enqueue("antigravity", "antigravity")
    tasks.loaded.using(priority=-1).enqueue("poplib", "poplib")
    stage.worker()

    stage.ledger.wait_for("antigravity", "poplib")
    stage.until_empty()
    failed = stage.failed()
    assert failed.keys() == ids.keys()
    for task_id, path in ids.items():
        assert failed[task_id].failure.exception == "django_vtasks.errors.UnknownTask"
        assert repr(path) in failed[task_id].failure.message
    assert stage.ledger.read("antigravity") == [{"loaded": False}]
    assert stage.ledger.read("poplib") == [{"loaded": False}]
    assert not touched.exists()


def test_arguments_that_the_function_does_not_take_fail_the_task(stage):
    result = tasks.note.enqueue()  # type: ignore[call-arg]
    other = tasks.anote.enqueue("key", 1, **{"no such": "keyword"})
    stage.worker()

    eventually(lambda: len(stage.failed()) == 1, "the call without arguments has failed")
    stage.until_empty()
    assert stage.failed()[result.id].failure.exception == "builtins.TypeError"
    assert other.id not in stage.failed()


def test_the_failed_list_keeps_to_its_cap_and_counts_what_it_evicts(stage, settings):
    settings(VTASKS_DLQ_CAP=3)
    for _ in range(8):
        tasks.fail.enqueue("ValueError")
    stage.worker(VTASKS_DLQ_CAP="3")

    stage.until_empty()
    assert (stage.broker.failed_count(), stage.broker.evictions()) == (3, 5)
