"""What happens to a task reaches Django's signals and the log; no receiver can hurt the one who reports."""

import asyncio
import contextvars
import logging
import sys
import threading
from datetime import UTC, datetime

import pytest
from django.tasks import TaskResultStatus
from django.tasks.signals import (  # noqa: TID251  # received as in a project, not sent
    log_task_finished,
    task_enqueued,
    task_finished,
    task_started,
)
from django.test import override_settings
from msgspec.structs import replace

from django_vtasks import observers
from django_vtasks.backends.db import DatabaseTaskBackend
from django_vtasks.brokers.base import Claim, Owner, TaskFailure
from django_vtasks.envelope import Envelope
from django_vtasks.observers import Observer, Run
from django_vtasks.results import UNKNOWN_WORKER, Published, build
from django_vtasks.signals import task_refused, worker_started, worker_stopped
from tests.app.receivers import connected, heard
from tests.app.tasks import add

STARTED_AT = 1_800_000_000.0
FINISHED_AT = STARTED_AT + 1.5
OWNER = Owner("north", "default#1")
FAILURE = TaskFailure("builtins.ValueError", "no such address", "Traceback (most recent call last): …")

ENVELOPE = Envelope(
    id="0123456789abcdef0123456789abcdef",
    task=add.module_path,
    queue="default",
    args=[1],
    kwargs={"b": 2},
    enqueued_at=STARTED_AT - 60,
    attempt=1,
)


class Sender:
    pass


@pytest.fixture
def observer():
    return Observer(Sender)


@pytest.fixture
def run():
    return a_run()


def a_run(*, attempt=1, failure=None):
    run = Run(add, Claim(replace(ENVELOPE, attempt=attempt), OWNER, receipt=1), STARTED_AT)
    run.finished_at = FINISHED_AT
    run.failure = failure
    return run


def lines(caplog, logger):
    return [(record.levelname, record.getMessage()) for record in caplog.records if record.name == logger]


async def report(observer, way, run, value=None):
    """Report start and end of a run in one of the two ways that the executor has."""
    if way == "on a thread":
        observer.started(run)
        observer.finished(run, value)
    else:
        await observer.astarted([run])
        await observer.afinished([(run, value, sys.exception())])


both_ways = pytest.mark.parametrize("way", ["on a thread", "on the loop"])


def broken(sender, **kwargs):
    raise ZeroDivisionError("receiver")


async def abroken(sender, **kwargs):
    await asyncio.sleep(0)
    raise ZeroDivisionError("receiver")


# Django's log lines


@both_ways
async def test_django_logs_start_and_end_as_with_its_own_backend(way, observer, run, caplog):
    caplog.set_level(logging.INFO)
    await report(observer, way, run)

    about = "Task id=0123456789abcdef0123456789abcdef path=tests.app.tasks.add"
    assert lines(caplog, "django.tasks") == [("INFO", f"{about} state=RUNNING"), ("INFO", f"{about} state=SUCCESSFUL")]


@both_ways
async def test_djangos_log_has_the_traceback_of_a_failed_task(way, observer, caplog):
    run = a_run(failure=FAILURE)
    error = ValueError("no such address")
    try:
        raise error
    except ValueError:
        await report(observer, way, run)

    [record] = [record for record in caplog.records if record.name == "django.tasks" and record.levelname == "ERROR"]
    assert "state=FAILED" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[1] is error


def test_a_log_for_errors_only_has_the_failed_tasks(observer, caplog):
    caplog.set_level(logging.ERROR, "django.tasks")
    observer.finished(a_run(), 3)
    observer.finished(a_run(failure=FAILURE), None)

    [(level, line)] = lines(caplog, "django.tasks")
    assert level == "ERROR"
    assert "state=FAILED" in line


def test_djangos_log_of_a_successful_task_has_no_traceback(observer, run, caplog):
    caplog.set_level(logging.INFO)
    observer.finished(run, None)

    assert not any(record.exc_info for record in caplog.records)


def test_while_nobody_asks_no_result_is_made(observer, run, caplog):
    caplog.set_level(logging.ERROR, "django.tasks")
    observer.started(run)
    observer.finished(run, None)

    assert run._result is None


# Our log line


def test_a_finished_task_has_one_line_in_our_log(observer, run, caplog):
    caplog.set_level(logging.INFO)
    observer.started(run)
    observer.finished(run, 3)

    assert lines(caplog, "django_vtasks.observers") == [
        (
            "INFO",
            "Task tests.app.tasks.add succeeded in 1.500 s id=0123456789abcdef0123456789abcdef queue=default attempt=1",
        )
    ]


@both_ways
async def test_a_failed_task_has_one_line_in_our_log_that_says_why(way, observer, caplog):
    caplog.set_level(logging.INFO)
    await report(observer, way, a_run(attempt=2, failure=FAILURE))

    [(level, line)] = lines(caplog, "django_vtasks.observers")
    assert level == "WARNING"
    assert line.startswith("Task tests.app.tasks.add failed after 1.500 s: builtins.ValueError: no such address id=")
    assert line.endswith(f"id={ENVELOPE.id} queue=default attempt=2")


def test_a_task_that_cannot_run_at_all_has_one_line_in_our_log(caplog):
    unreadable = Claim(Envelope.unreadable("abc", "emails"), OWNER, receipt=1, problem="truncated")

    Observer.rejected(unreadable, TaskFailure("django_vtasks.errors.PayloadError", "truncated"))

    assert lines(caplog, "django_vtasks.observers") == [
        ("WARNING", "Task ? cannot run: truncated id=abc queue=emails"),
    ]


def test_a_task_that_nobody_knows_is_named_in_our_log(caplog):
    Observer.rejected(a_run().claim, TaskFailure("django_vtasks.errors.UnknownTask", "No task"))

    [(_, line)] = lines(caplog, "django_vtasks.observers")
    assert line == f"Task tests.app.tasks.add cannot run: No task id={ENVELOPE.id} queue=default"


def test_a_payload_cannot_forge_a_line_of_our_log(caplog):
    forged = Envelope.unreadable("abc\nTask b", "emails")
    claim = Claim(replace(forged, task="é\nTask c"), OWNER, receipt=1)

    Observer.rejected(claim, TaskFailure("django_vtasks.errors.UnknownTask", "No task 'é\nTask c'"))

    [(_, line)] = lines(caplog, "django_vtasks.observers")
    assert "\n" not in line
    assert r"é\nTask c" in line


def test_a_failure_with_percent_signs_can_be_logged(observer, caplog):
    observer.finished(a_run(failure=TaskFailure("builtins.ValueError", "100 %s %d {x}")), None)

    [(_, line)] = lines(caplog, "django_vtasks.observers")
    assert "100 %s %d {x}" in line


# Receivers


@both_ways
async def test_a_receiver_gets_the_sender_and_the_result_of_each_step(way, observer, run):
    states = []

    def receiver(sender, task_result, **kwargs):
        states.append((sender, task_result.status, task_result.is_finished))

    with connected(task_started, receiver), connected(task_finished, receiver):
        await report(observer, way, run, 3)

    assert states == [
        (Sender, TaskResultStatus.RUNNING, False),
        (Sender, TaskResultStatus.SUCCESSFUL, True),
    ]


def test_a_started_result_has_all_of_djangos_fields(observer, run):
    with heard(task_started) as started:
        observer.started(run)

    [result] = [signal["task_result"] for signal in started]
    assert result.task == add
    assert result.id == ENVELOPE.id
    assert result.enqueued_at == datetime.fromtimestamp(STARTED_AT - 60, UTC)
    assert result.started_at == result.last_attempted_at == datetime.fromtimestamp(STARTED_AT, UTC)
    assert result.finished_at is None
    assert (result.args, result.kwargs, result.backend, result.errors) == ([1], {"b": 2}, "default", [])
    assert (result.worker_ids, result.attempts) == (["north:default#1:1"], 1)


def test_the_task_of_a_result_has_the_options_of_its_enqueue(observer):
    envelope = replace(ENVELOPE, queue="emails", priority=5, run_after=STARTED_AT - 30)
    run = Run(add, Claim(envelope, OWNER, receipt=1), STARTED_AT)

    with override_settings(VTASKS_QUEUES=["not emails"]):
        task = run.result.task

    assert (task.queue_name, task.priority) == ("emails", 5)
    assert task.run_after == datetime.fromtimestamp(STARTED_AT - 30, UTC)
    assert task.func is add.func
    assert add.queue_name == "default"


def test_a_later_attempt_counts_those_before(observer):
    with heard(task_started) as started:
        observer.started(a_run(attempt=3))

    [result] = [signal["task_result"] for signal in started]
    assert result.attempts == 3
    assert result.worker_ids == [UNKNOWN_WORKER, UNKNOWN_WORKER, "north:default#1:1"]


def test_a_finished_result_has_the_value(observer, run):
    with heard(task_finished) as finished:
        observer.finished(run, {"sum": 3})

    [result] = [signal["task_result"] for signal in finished]
    assert result.return_value == {"sum": 3}
    assert result.finished_at == datetime.fromtimestamp(FINISHED_AT, UTC)
    assert result.errors == []


def test_a_failed_result_has_the_error(observer):
    with heard(task_finished) as finished:
        observer.finished(a_run(failure=FAILURE), None)

    [result] = [signal["task_result"] for signal in finished]
    assert result.status is TaskResultStatus.FAILED
    [error] = result.errors
    assert (error.exception_class, error.traceback) == (ValueError, FAILURE.traceback)
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value


def test_start_end_and_context_share_one_result(observer, run):
    with heard(task_started) as started, heard(task_finished) as finished:
        observer.started(run)
        in_context = run.result
        observer.finished(run, 3)

    assert started[0]["task_result"] is finished[0]["task_result"] is in_context


def test_times_are_naive_where_the_project_has_no_time_zones(observer, run):
    with override_settings(USE_TZ=False), heard(task_finished) as finished:
        observer.finished(run, 3)

    [result] = [signal["task_result"] for signal in finished]
    assert result.finished_at == datetime.fromtimestamp(FINISHED_AT)  # noqa: DTZ006 - naive on purpose
    assert result.enqueued_at.tzinfo is None


@both_ways
async def test_receivers_of_both_kinds_are_called(way, observer, run):
    heard_of = []

    def receiver(sender, task_result, **kwargs):
        heard_of.append("def")

    async def areceiver(sender, task_result, **kwargs):
        await asyncio.sleep(0)
        heard_of.append("async def")

    with connected(task_finished, receiver), connected(task_finished, areceiver):
        if way == "on the loop":
            await observer.afinished([(run, 3, None)])
        else:
            await asyncio.to_thread(observer.finished, run, 3)

    assert sorted(heard_of) == ["async def", "def"]


async def test_on_the_loop_a_synchronous_receiver_does_not_block_it(observer, run):
    threads = []

    def receiver(sender, **kwargs):
        threads.append(threading.current_thread())

    with connected(task_finished, receiver):
        await observer.afinished([(run, 3, None)])

    assert threads
    assert threads != [threading.current_thread()]


async def test_on_the_loop_nothing_leaves_it_for_receivers_that_are_awaited(observer, run, monkeypatch):
    """A visit to a thread and back takes as long as some tens of tasks that do nothing."""
    threads = []

    async def receiver(sender, **kwargs):
        await asyncio.sleep(0)
        threads.append(threading.current_thread())

    monkeypatch.setattr(observers, "_tell_in_lane", None)
    with connected(task_started, receiver), connected(task_finished, receiver):
        await report(observer, "on the loop", run)

    assert threads == [threading.current_thread()] * 2


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_on_the_loop_several_runs_are_told_in_one_go_each_with_its_own_error(kind, observer):
    runs, errors = [a_run(), a_run(failure=FAILURE), a_run(failure=FAILURE)], [None, KeyError("one"), KeyError("two")]
    heard, threads = [], set()

    def receiver(sender, task_result, **kwargs):
        heard.append((task_result, sys.exception()))
        threads.add(threading.current_thread())

    async def areceiver(sender, **kwargs):
        await asyncio.sleep(0)
        receiver(sender, **kwargs)

    with connected(task_finished, receiver if kind == "def" else areceiver):
        await observer.afinished([(run, None, error) for run, error in zip(runs, errors, strict=True)])

    assert heard == [(run.result, error) for run, error in zip(runs, errors, strict=True)]
    assert len(threads) == 1
    assert [error.__traceback__ for error in errors if error] == [None, None]


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_on_the_loop_a_task_has_what_receivers_have_bound_for_it(kind, observer, run):
    """As structlog and OpenTelemetry do."""
    one, two = contextvars.ContextVar("one", default=""), contextvars.ContextVar("two", default="")

    def bind(variable):
        def receiver(sender, task_result, **kwargs):
            variable.set(task_result.id)

        async def areceiver(sender, **kwargs):
            await asyncio.sleep(0)
            receiver(sender, **kwargs)

        return receiver if kind == "def" else areceiver

    with connected(task_started, bind(one)), connected(task_started, bind(two)):
        await observer.astarted([run])

    assert (one.get(), two.get()) == (ENVELOPE.id, ENVELOPE.id)


async def test_who_waits_for_a_receiver_can_be_cancelled(observer, run):
    waits = asyncio.Event()

    async def receiver(sender, **kwargs):
        waits.set()
        await asyncio.sleep(100)

    with connected(task_started, receiver):
        telling = asyncio.ensure_future(observer.astarted([run]))
        await waits.wait()
        telling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await telling


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_on_the_loop_not_even_an_exit_of_a_receiver_comes_through(kind, observer, run, caplog):
    def receiver(sender, **kwargs):
        raise SystemExit("a receiver's own idea")

    async def areceiver(sender, **kwargs):
        receiver(sender)

    with connected(task_finished, receiver if kind == "def" else areceiver):
        await observer.afinished([(run, 3, None)])

    assert "A receiver failed on task tests.app.tasks.add" in caplog.text


@both_ways
@pytest.mark.parametrize("bad", [broken, abroken], ids=["def", "async def"])
async def test_a_receiver_that_raises_hurts_neither_the_task_nor_other_receivers(way, bad, observer, run, caplog):
    with (
        connected(task_started, bad),
        connected(task_finished, bad),
        heard(task_started) as started,
        heard(task_finished) as finished,
    ):
        if way == "on the loop":
            await report(observer, way, run, 3)
        else:
            await asyncio.to_thread(observer.started, run)
            await asyncio.to_thread(observer.finished, run, 3)

    assert len(started) == len(finished) == 1
    assert finished[0]["task_result"].status is TaskResultStatus.SUCCESSFUL
    errors = [record for record in caplog.records if record.name == "django.dispatch"]
    assert len(errors) == 2
    assert all("ZeroDivisionError" in str(record.exc_info) for record in errors)


@both_ways
async def test_a_receiver_sees_the_exception_of_a_failed_task(way, observer):
    seen = []

    def receiver(sender, **kwargs):
        seen.append(sys.exc_info()[1])

    error = ValueError("no such address")
    with connected(task_finished, receiver):
        try:
            raise error
        except ValueError:
            await report(observer, way, a_run(failure=FAILURE))
        await report(observer, way, a_run())

    assert seen == [error, None]


def test_a_receiver_for_another_sender_is_not_called(observer, run):
    received = []

    def receiver(sender, **kwargs):
        received.append(sender)

    task_started.connect(receiver, sender=DatabaseTaskBackend, weak=False)
    try:
        observer.started(run)
        Observer(DatabaseTaskBackend).started(a_run())
    finally:
        task_started.disconnect(receiver, sender=DatabaseTaskBackend)

    assert received == [DatabaseTaskBackend]


@pytest.mark.parametrize(
    ("signal", "needs_loop"),
    [(task_started, Observer.start_needs_loop), (task_finished, Observer.finish_needs_loop)],
    ids=["start", "finish"],
)
def test_the_loop_is_needed_only_while_the_project_has_receivers(signal, needs_loop):
    assert not needs_loop()
    with heard(signal):
        assert needs_loop()
    assert not needs_loop()


class TestWhetherAnybodyIsTold:
    @pytest.fixture(autouse=True)
    def quiet(self, caplog):
        caplog.set_level(logging.WARNING, "django.tasks")
        caplog.set_level(logging.WARNING, "django_vtasks.observers")

    def test_of_a_success_nobody_is_while_logs_are_quiet_and_nobody_listens(self, run):
        assert not Observer.tells_of_start()
        assert not Observer.tells_of_end(run)

    def test_of_a_failure_the_log_always_is(self):
        assert Observer.tells_of_end(a_run(failure=FAILURE))

    def test_receivers_are(self, run):
        with heard(task_started):
            assert Observer.tells_of_start()
        with heard(task_finished):
            assert Observer.tells_of_end(run)

    def test_djangos_log_is_at_its_level(self, run, caplog):
        caplog.set_level(logging.INFO, "django.tasks")

        assert Observer.tells_of_start()
        assert Observer.tells_of_end(run)

    def test_our_log_is_at_its_level(self, run, caplog):
        caplog.set_level(logging.INFO, "django_vtasks.observers")

        assert Observer.tells_of_end(run)


def test_a_project_may_take_djangos_own_receiver_away(observer, run, caplog):
    caplog.set_level(logging.INFO)
    task_finished.disconnect(log_task_finished)
    try:
        assert not Observer.finish_needs_loop()
        with heard(task_finished) as finished:
            observer.finished(run, 3)
    finally:
        task_finished.connect(log_task_finished)

    assert len(finished) == 1
    assert lines(caplog, "django.tasks") == []


def test_without_djangos_own_receiver_nothing_is_logged_in_its_name(observer, run, caplog):
    caplog.set_level(logging.INFO)
    task_finished.disconnect(log_task_finished)
    try:
        observer.finished(run, 3)
    finally:
        task_finished.connect(log_task_finished)

    assert lines(caplog, "django.tasks") == []


# Enqueued and refused


def published(*, refused=False):
    return Published(add, ENVELOPE, None if refused else build(add, ENVELOPE, "default"))


async def tell(way, events):
    if way == "on a thread":
        observers.published(Sender, events)
    else:
        await observers.apublished(Sender, events)


@both_ways
async def test_each_accepted_task_is_told_and_so_is_each_refused_one(way):
    events = [published(), published(refused=True), published()]

    with heard(task_enqueued) as enqueued, heard(task_refused) as refused:
        await tell(way, events)

    assert enqueued == [{"sender": Sender, "task_result": events[place].result} for place in (0, 2)]
    assert refused == [{"sender": Sender, "task": add, "args": [1], "kwargs": {"b": 2}}]


@both_ways
async def test_a_refused_task_is_told_though_nobody_listens_to_the_accepted(way, caplog):
    caplog.set_level(logging.INFO, "django.tasks")

    with heard(task_refused) as refused:
        await tell(way, [published(), published(refused=True)])

    assert len(refused) == 1


@both_ways
async def test_django_logs_an_accepted_task_when_its_log_is_that_fine(way, caplog):
    caplog.set_level(logging.DEBUG, "django.tasks")
    await tell(way, [published(), published(refused=True)])

    assert lines(caplog, "django.tasks") == [
        ("DEBUG", "Task id=0123456789abcdef0123456789abcdef path=tests.app.tasks.add enqueued backend=default")
    ]


@both_ways
async def test_what_a_receiver_raises_at_the_enqueue_reaches_the_caller_as_in_django(way):
    with connected(task_enqueued, broken), pytest.raises(ZeroDivisionError):
        await tell(way, [published()])


# Workers


def test_a_worker_tells_of_its_beginning_and_its_end(caplog):
    caplog.set_level(logging.INFO)

    with heard(worker_started) as began, heard(worker_stopped) as ended:
        observers.worker_began(Sender, "north", ("default", "emails"))
        observers.worker_ended(Sender, "north", ("default", "emails"))

    assert began == ended == [{"sender": Sender, "node": "north", "queues": ["default", "emails"]}]
    assert lines(caplog, "django_vtasks.observers") == [
        ("INFO", "Worker north takes tasks of default, emails"),
        ("INFO", "Worker north has stopped"),
    ]


def test_a_receiver_that_raises_does_not_keep_a_worker_from_its_work():
    with (
        connected(worker_started, broken),
        connected(worker_stopped, broken),
        heard(worker_started) as began,
        heard(worker_stopped) as ended,
    ):
        observers.worker_began(Sender, "north", ["default"])
        observers.worker_ended(Sender, "north", ["default"])

    assert len(began) == len(ended) == 1
