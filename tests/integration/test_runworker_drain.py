"""Signals: what runs may finish, what does not goes back unharmed, and the worker ends when it should."""

import random
import signal
import time
from functools import partial
from typing import Any

import pytest

from django_vtasks.brokers.base import Depth
from tests.integration.probes import eventually
from tests.workapp import tasks

everywhere = pytest.mark.parametrize(
    "alias",
    ["default", "postgres", "mariadb", "valkey"],
    indirect=True,
    ids=["sqlite", "postgresql", "mariadb", "valkey"],
)

SLACK = 2.0
"""Seconds that a worker may take beyond its time-out, and an idle one to end."""
HANG = 15.0


def assert_given_back(stage, *task_ids):
    """The tasks wait as if nobody had ever claimed them, and nothing else is there."""
    rows = stage.rows()
    assert {row.task_id for row in rows} == set(task_ids)
    for row in rows:
        assert (row.state, row.attempt, row.crashes, row.owner, row.node) == (0, 0, 0, None, None)


@everywhere
class TestSigterm:
    def test_what_runs_finishes_and_what_waits_goes_back(self, stage):
        for task in (tasks.hold, tasks.ahold):
            task.enqueue(task.func.__name__)
        waiting = [tasks.note.enqueue(f"waiting{n}").id for n in range(5)]
        worker = stage.worker("--concurrency", "2")
        stage.ledger.wait_for("hold", "ahold")
        worker.send(signal.SIGTERM)
        worker.until_it_says("drains")
        eventually(lambda: stage.running() == 2, "what has not started is given back before the rest has ended")
        stage.ledger.open("hold", "ahold")

        assert worker.exit_code(HANG) == 0
        stage.ledger.wait_for("hold-end", "ahold-end")
        assert stage.failed() == {}
        ran = {key for key in stage.ledger.counts() if key.startswith("waiting")}
        assert not ran
        assert_given_back(stage, *waiting)
        assert stage.broker.nodes() == {}

    def test_an_idle_worker_ends_at_once(self, stage):
        worker = stage.worker()
        worker.send(signal.SIGTERM)

        assert worker.exit_code(SLACK) == 0
        assert stage.broker.nodes() == {}

    def test_what_is_longer_than_the_time_out_goes_back(self, stage):
        ids = [task.enqueue(task.func.__name__).id for task in (tasks.hold, tasks.ahold, tasks.hold_in_lane)]
        worker = stage.worker(VTASKS_SHUTDOWN_TIMEOUT="3")
        stage.ledger.wait_for("hold", "ahold", "hold_in_lane")
        began = time.monotonic()
        worker.send(signal.SIGTERM)

        assert worker.exit_code(HANG) == 0
        assert time.monotonic() - began <= 3 + SLACK
        assert stage.ledger.counts()["ahold-cancelled"] == 1
        assert_given_back(stage, *ids)
        assert stage.failed() == {}


def test_the_next_worker_runs_what_went_back_as_its_first_attempt(stage):
    tasks.hold.enqueue("held")
    first = stage.worker(VTASKS_SHUTDOWN_TIMEOUT="3")
    stage.ledger.wait_for("held")
    first.send(signal.SIGTERM)
    assert first.exit_code(HANG) == 0
    stage.ledger.open("held")
    assert stage.start("--burst").exit_code() == 0

    assert [entry["attempt"] for entry in stage.ledger.read("held")] == [1, 1]
    assert stage.ledger.counts()["held-end"] == 1


@pytest.mark.parametrize(
    "task",
    [tasks.hold, tasks.ahold, tasks.hold_in_lane, tasks.hold_in_thread, tasks.stubborn],
    ids=["a thread", "a coroutine", "a coroutine in the orm", "a coroutine in to_thread", "a coroutine that refuses"],
)
def test_nothing_that_a_task_does_keeps_the_process_beyond_its_time_out(stage, task):
    result = task.enqueue("held")
    worker = stage.worker(VTASKS_SHUTDOWN_TIMEOUT="3")
    stage.ledger.wait_for("held")
    began = time.monotonic()
    worker.send(signal.SIGTERM)

    assert worker.exit_code(HANG) == 0
    assert time.monotonic() - began <= 3 + SLACK
    assert_given_back(stage, result.id)


@pytest.mark.parametrize(
    "task",
    [tasks.leave_job_behind, tasks.leave_thread_behind, tasks.leave_coroutine_behind],
    ids=["a job of the loop's executor", "a thread", "a coroutine that refuses"],
)
def test_nothing_that_a_task_left_behind_keeps_the_process(stage, task):
    """The task has ended, and so should the worker, although something that it began goes on."""
    task.enqueue("ended")
    worker = stage.worker(VTASKS_SHUTDOWN_TIMEOUT="3")
    stage.ledger.wait_for("ended")
    stage.until_empty()
    worker.send(signal.SIGTERM)

    assert worker.exit_code(3 + SLACK) == 0


def test_what_a_task_left_behind_does_not_keep_a_burst_from_its_end(stage):
    tasks.leave_job_behind.enqueue("ended")

    assert stage.start("--burst").exit_code(3 + SLACK) == 0


def test_a_second_sigterm_changes_nothing(stage):
    """Heroku sends it to every process, and perhaps again."""
    tasks.hold.enqueue("held")
    tasks.ahold.enqueue("aheld")
    worker = stage.worker()
    stage.ledger.wait_for("held", "aheld")
    for _ in range(5):
        worker.send(signal.SIGTERM)
        worker.until_it_says("drains")
    stage.ledger.open("held", "aheld")

    assert worker.exit_code(HANG) == 0
    stage.ledger.wait_for("held-end", "aheld-end")
    assert stage.size() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signals_until_the_last_moment_do_not_change_the_exit_code(stage, number):
    worker = stage.worker()
    deadline = time.monotonic() + HANG
    while worker.is_running and time.monotonic() < deadline:
        worker.send(number)

    assert worker.exit_code(SLACK) == 0


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGQUIT])
def test_sigint_or_sigquit_during_a_drain_ends_it_at_once(stage, first, second):
    ids = [tasks.hold.enqueue("held").id, tasks.ahold.enqueue("aheld").id]
    worker = stage.worker(VTASKS_SHUTDOWN_TIMEOUT="60")
    stage.ledger.wait_for("held", "aheld")
    worker.send(first)
    worker.until_it_says("drains")
    if first == signal.SIGTERM and second == signal.SIGINT:
        worker.send(signal.SIGINT)
    worker.send(second)

    assert worker.exit_code(SLACK + 1) == 0
    assert_given_back(stage, *ids)


def test_sigquit_gives_everything_back_at_once(stage):
    ids = [tasks.hold.enqueue("held").id, tasks.ahold.enqueue("aheld").id]
    worker = stage.worker(VTASKS_SHUTDOWN_TIMEOUT="60")
    stage.ledger.wait_for("held", "aheld")
    worker.send(signal.SIGQUIT)

    assert worker.exit_code(SLACK + 1) == 0
    assert_given_back(stage, *ids)


def test_the_first_sigint_drains(stage):
    tasks.hold.enqueue("held")
    worker = stage.worker()
    stage.ledger.wait_for("held")
    worker.send(signal.SIGINT)
    worker.until_it_says("drains")
    stage.ledger.open("held")

    assert worker.exit_code(HANG) == 0
    assert stage.ledger.counts()["held-end"] == 1
    assert stage.size() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_any_moment_of_start_up_loses_nothing(stage, number):
    """The moments are at random: before, while and after the worker takes its first tasks."""
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    ids = {tasks.anote.enqueue(f"n{n}").id for n in range(40)}
    for _ in range(5):
        worker = stage.start()
        worker.exits_on(number, after=moments.uniform(0.0, 1.5))
        ready = worker.is_ready
        code = worker.exit_code(SLACK + 3)
        assert code == 0 or (not ready and code in {-number, 1}), f"exit code {code}, seed {seed}"
        assert stage.running() == 0, f"seed {seed}"

    assert stage.start("--burst").exit_code() == 0
    assert stage.ledger.counts() == {f"n{n}": 1 for n in range(40)}, f"seed {seed}"
    assert not stage.failed().keys() & ids


def has_run(stage, count):
    return stage.ledger.counts().total() >= count or not stage.size()


@everywhere
def test_a_drain_under_load_loses_nothing_spends_no_attempt_and_runs_nothing_twice(stage):
    calls: list[Any] = [
        (task, (f"{task.func.__name__}{n}", 0.005), {}) for n in range(150) for task in (tasks.work, tasks.awork)
    ]
    ids = {result.id for result in stage.enqueue_many(calls)}
    assert len(ids) == 300
    drains = 0
    while stage.size() > 100:
        worker = stage.worker("--concurrency", "8")
        seen = stage.ledger.counts().total()
        eventually(partial(has_run, stage, seen + 80), "it works")
        worker.send(signal.SIGTERM)
        assert worker.exit_code(HANG) == 0
        drains += 1
        assert stage.broker.depth("default") == Depth(stage.size(), 0, 0)
        assert {(row.attempt, row.crashes) for row in stage.rows()} <= {(0, 0)}
    assert drains >= 2, "VACUOUS: the first worker did it all"
    assert stage.start("--burst").exit_code() == 0

    assert set(stage.ledger.counts().values()) == {1}
    assert stage.ledger.counts().total() == 300
    assert stage.failed() == {}
