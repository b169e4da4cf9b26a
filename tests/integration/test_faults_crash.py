"""Workers that die or freeze: their tasks move on within the lease, once, and crashes are counted."""

import random
import sys
import time

import pytest

from django_vtasks.db.models import TaskState
from tests.integration.probes import eventually
from tests.workapp import tasks

everywhere = pytest.mark.parametrize(
    "alias",
    ["default", "postgres", "mariadb", "valkey"],
    indirect=True,
    ids=["sqlite", "postgresql", "mariadb", "valkey"],
)

LEASE = 2.0
RENEWAL = LEASE / 3
SLACK = 2.5
"""Seconds for processes to be scheduled on a busy machine, beyond what the leases say."""
KILLS = 5


@pytest.fixture(autouse=True)
def short_lease(stage):
    stage.environment["VTASKS_LEASE"] = str(LEASE)


@everywhere
class TestKill9:
    def test_another_worker_takes_the_tasks_within_the_lease(self, stage):
        ids = {task.enqueue(key).id for task, key in ((tasks.hold, "held"), (tasks.ahold, "aheld"))}
        first = stage.worker("--id", "alpha")
        stage.ledger.wait_for("held", "aheld")
        second = stage.worker("--id", "beta")
        first.kill()
        died = time.monotonic()

        stage.ledger.wait_for("held", "aheld", times=2)
        assert time.monotonic() - died <= LEASE + RENEWAL + SLACK
        rows = stage.rows(state=TaskState.RUNNING)
        assert {(row.task_id in ids, row.crashes, row.attempt) for row in rows} == {(True, 1, 2)}
        assert all(row.node.startswith("beta") for row in rows)
        stage.ledger.open("held", "aheld")
        stage.until_empty()
        for key in ("held", "aheld"):
            assert [entry["attempt"] for entry in stage.ledger.read(key)] == [1, 2]
            assert [entry["attempt"] for entry in stage.ledger.read(f"{key}-end")] == [2]
        assert stage.failed() == {}
        second.until_it_says("Took back 2 tasks of vanished workers; 0 of them failed for good")
        assert len(stage.broker.nodes()) == 1

    def test_a_task_that_kills_its_worker_each_time_fails_for_good(self, stage, settings):
        settings(VTASKS_MAX_RESCUES=1)
        poison = tasks.die.enqueue("poison", "SIGKILL")
        worker = stage.worker()

        eventually(stage.failed, "the poison is in the failed list")
        [entry] = stage.failed().values()
        assert (entry.id, entry.crashes, entry.attempts) == (poison.id, 2, 2)
        assert entry.failure.exception == "django_vtasks.errors.WorkerLost"
        assert "signal SIGKILL" in entry.failure.message
        assert "peak memory" in entry.failure.message
        assert stage.ledger.counts() == {"poison": 2}
        assert worker.is_running
        tasks.note.enqueue("after")
        stage.ledger.wait_for("after")
        stage.until_empty()


def test_a_worker_that_starts_later_takes_them_too(stage):
    tasks.hold.enqueue("held")
    tasks.note_context.enqueue("unharmed")
    first = stage.worker("--concurrency", "1")
    stage.ledger.wait_for("held")
    first.kill()
    stage.ledger.open("held")
    stage.worker()

    stage.ledger.wait_for("unharmed", "held-end", within=LEASE + RENEWAL + SLACK)
    stage.until_empty()


def test_with_no_rescues_a_crashed_task_never_runs_again(stage, settings):
    settings(VTASKS_MAX_RESCUES=0)
    tasks.die.enqueue("once", "exit 3")
    worker = stage.worker()

    eventually(stage.failed, "the task is in the failed list")
    [entry] = stage.failed().values()
    assert "exit code 3" in entry.failure.message
    assert stage.ledger.counts() == {"once": 1}
    assert worker.is_running


@everywhere
def test_a_worker_frozen_beyond_its_lease_settles_nothing_and_comes_back(stage):
    tasks.hold.enqueue("held")
    tasks.ahold.enqueue("aheld")
    frozen = stage.worker("--id", "alpha")
    stage.ledger.wait_for("held", "aheld")
    second = stage.worker("--id", "beta")
    frozen.freeze()
    stage.ledger.wait_for("held", "aheld", times=2)
    # The second worker's runs end while the first is frozen: there is nothing left to settle when it thaws.
    stage.ledger.open("held", "aheld")
    stage.until_empty()
    frozen.thaw()

    frozen.until_it_says("was no longer this worker's when it ended", times=2)
    frozen.until_it_says("had run out")
    assert stage.failed() == {}
    assert stage.ledger.counts()["held-end"] == 2
    assert len(second.log_lines("Task tests.workapp.tasks.", "succeeded in")) == 2

    second.kill()
    tasks.note.enqueue("after")
    stage.ledger.wait_for("after", within=LEASE + SLACK)
    stage.until_empty()


def test_a_worker_frozen_beyond_its_lease_cannot_settle_what_another_still_runs(stage):
    tasks.hold.enqueue("held")
    frozen = stage.worker("--id", "alpha")
    stage.ledger.wait_for("held")
    second = stage.worker("--id", "beta")
    frozen.freeze()
    stage.ledger.wait_for("held", times=2)
    second.freeze()
    frozen.thaw()
    stage.ledger.open("held")
    frozen.until_it_says("was no longer this worker's when it ended")
    # Fenced: the row is still there, on the second worker's books or back in the queue when its lease has run out.
    assert stage.size() == 1
    second.thaw()

    stage.until_empty()
    assert stage.failed() == {}


def test_a_worker_frozen_for_less_than_its_lease_goes_on_as_if_nothing_had_been(stage):
    tasks.ahold.enqueue("aheld")
    frozen = stage.worker("--id", "alpha")
    stage.worker("--id", "beta")
    stage.ledger.wait_for("aheld")
    frozen.freeze()
    deadline = time.monotonic() + LEASE / 4
    eventually(lambda: time.monotonic() > deadline, "a quarter of the lease has passed")
    frozen.thaw()
    stage.ledger.open("aheld")

    stage.until_empty()
    assert stage.ledger.counts() == {"aheld": 1, "aheld-end": 1}


class Killer:
    """Keeps two workers, each of which it kills some moments after it has begun to take tasks."""

    def __init__(self, stage, chance):
        self.kills = 0
        self._stage = stage
        self._chance = chance
        self._prey = [self._start("alpha"), self._start("beta")]
        self._due: list[float | None] = [None, None]

    def look(self):
        now = time.monotonic()
        for place, worker in enumerate(self._prey):
            due = self._due[place]
            if due is None and worker.is_ready:
                self._due[place] = now + self._chance.uniform(0.05, 0.5)
            elif due is not None and now >= due:
                worker.kill()
                self.kills += 1
                self._prey[place], self._due[place] = self._start(f"after-{self.kills}"), None

    def _start(self, name):
        return self._stage.start("--concurrency", "10", "--id", name)


@pytest.mark.parametrize(
    "alias", ["default", "postgres", "valkey"], indirect=True, ids=["sqlite", "postgresql", "valkey"]
)
def test_nothing_is_lost_while_workers_are_killed_at_random(stage, settings):
    settings(VTASKS_MAX_RESCUES=1000)
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    numbers = range(2000)
    stage.enqueue_many(
        (chance.choice([tasks.work, tasks.awork]), (f"t{n}", round(chance.uniform(0, 0.03), 3)), {}) for n in numbers
    )
    killer = Killer(stage, chance)

    def done():
        if killer.kills < KILLS and stage.broker.depth("default").waiting > 100:
            killer.look()
        return stage.size() == 0

    eventually(done, f"all tasks have ended, seed {seed}", within=60)
    counts = stage.ledger.counts()
    assert counts.keys() == {f"t{n}" for n in numbers}, f"seed {seed}"
    assert stage.failed() == {}, f"seed {seed}"
    assert killer.kills >= 2, f"VACUOUS: {killer.kills} kills, seed {seed}"
    # Those that had ended but were not settled, and the ten that ran, may run again.
    assert counts.total() - 2000 <= 100 * killer.kills, f"seed {seed}"
    sys.stdout.write(f"seed {seed}, {killer.kills} kills, {counts.total() - 2000} tasks run again\n")
