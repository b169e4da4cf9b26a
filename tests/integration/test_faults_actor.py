"""Actors that die: only their own tasks come back, at once, and only what was running is blamed."""

import os
import random
import signal
import sys
import time

import psutil
import pytest

from django_vtasks.db.models import TaskState
from tests.integration.probes import eventually
from tests.integration.workers import IMPATIENT_WITH_ACTORS
from tests.workapp import tasks

both = pytest.mark.parametrize(
    "alias", ["default", "postgres", "valkey"], indirect=True, ids=["sqlite", "postgresql", "valkey"]
)

AT_ONCE = 3.0
"""Seconds; on an idle machine it is a fifth of one."""
LEASE = 30.0
"""Nothing here may wait for it."""


@pytest.fixture(autouse=True)
def long_lease(stage):
    stage.environment["VTASKS_LEASE"] = str(LEASE)


def begin(stage, *keys, task=tasks.hold):
    for key in keys:
        task.enqueue(key)
    stage.ledger.wait_for(*keys)


def attempts(stage, key):
    return [entry["attempt"] for entry in stage.ledger.read(key)]


@both
class TestOneOfTwo:
    def test_its_tasks_come_back_at_once_and_the_other_does_not_notice(self, stage):
        worker = stage.worker("--processes", "2", "--concurrency", "2")
        begin(stage, "a", "b", "c", "d")
        victim = stage.ledger.read("a")[0]["pid"]
        lost = {key for key in "abcd" if stage.ledger.read(key)[0]["pid"] == victim}
        others = set("abcd") - lost
        assert len(lost) == 2, "VACUOUS: one actor runs it all"
        os.kill(victim, signal.SIGKILL)
        died = time.monotonic()

        # Suspects are one after the other, and the second begins a second after the first.
        stage.ledger.open(*lost)
        stage.ledger.wait_for(*(f"{key}-end" for key in lost))
        assert time.monotonic() - died < AT_ONCE
        assert {len(stage.ledger.read(key)) for key in others} == {1}
        eventually(lambda: stage.size() == len(others), "what came back is settled")
        assert {(row.state, row.attempt, row.crashes) for row in stage.rows()} == {(TaskState.RUNNING, 1, 0)}
        stage.ledger.open(*others)
        stage.until_empty()
        assert {key: attempts(stage, key) for key in "abcd"} == {key: [1, 2] if key in lost else [1] for key in "abcd"}
        assert stage.failed() == {}
        eventually(lambda: worker.actors().keys() == {"default#1", "default#2"}, "two actors, and none for suspects")
        assert worker.is_running

    def test_what_it_had_claimed_but_not_started_goes_back_unharmed(self, stage):
        stage.worker("--concurrency", "4")
        stage.enqueue_many([(tasks.anote, (f"quick{n}",), {}) for n in range(100)])
        stage.until_empty()  # it has seen that tasks are short, and claims ahead
        held, waiting = [f"held{n}" for n in range(4)], [f"waiting{n}" for n in range(3)]
        stage.enqueue_many(
            [(tasks.ahold, (key,), {}) for key in held] + [(tasks.note_context, (key,), {}) for key in waiting]
        )
        stage.ledger.wait_for(*held)
        assert stage.running() == 7, "VACUOUS: nothing was claimed ahead"
        os.kill(stage.ledger.read("held0")[0]["pid"], signal.SIGKILL)
        stage.ledger.open(*held)

        stage.ledger.wait_for(*waiting, *(f"{key}-end" for key in held))
        stage.until_empty()
        assert [attempts(stage, key) for key in waiting] == [[1]] * len(waiting)
        assert [attempts(stage, key) for key in held] == [[1, 2]] * len(held)
        assert stage.failed() == {}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("SIGKILL", "signal SIGKILL"),
        ("segfault", "signal SIGSEGV"),
        ("exit 0", "exit code 0"),
        ("exit 3", "exit code 3"),
    ],
)
class TestPoison:
    def test_it_fails_after_its_rescues_and_its_company_completes(self, stage, settings, how, said):
        settings(VTASKS_MAX_RESCUES=1)
        worker = stage.worker()
        poison = tasks.die.enqueue("poison", how, 3)
        for _ in range(3):
            tasks.ahold.enqueue("company")
        worker.until_it_says("Took back 4 tasks of default#1")
        stage.ledger.open("company")

        eventually(stage.failed, "the poison is in the failed list")
        stage.until_empty()
        [entry] = stage.failed().values()
        assert (entry.id, entry.crashes, entry.attempts) == (poison.id, 2, 2)
        assert entry.failure.exception == "django_vtasks.errors.WorkerLost"
        assert said in entry.failure.message
        counts = stage.ledger.counts()
        assert (counts["poison"], counts["company"], counts["company-end"]) == (2, 6, 3)
        assert {entry["attempt"] for entry in stage.ledger.read("company-end")} == {2}
        assert worker.is_running


def test_sys_exit_in_a_task_of_the_loop_fails_a_task_and_ends_no_actor(stage):
    worker = stage.worker()
    before = worker.actors()
    exiting = tasks.exit_in_child.enqueue("exits")
    begin(stage, "beside", task=tasks.ahold)

    eventually(stage.failed, "the task is in the failed list")
    assert stage.failed()[exiting.id].failure.exception == "builtins.SystemExit"
    stage.ledger.open("beside")
    stage.until_empty()
    assert worker.actors() == before
    assert stage.ledger.counts() == {"exits": 1, "beside": 1, "beside-end": 1}


class TestBlockedLoop:
    def test_its_stacks_are_in_the_failed_list_and_other_actors_do_not_notice(self, stage, settings):
        settings(VTASKS_MAX_RESCUES=0, VTASKS_QUEUES=["mail"])
        worker = stage.worker(VTASKS_QUEUES="mail", **IMPATIENT_WITH_ACTORS)
        begin(stage, "other", task=tasks.ahold.using(queue_name="mail"))
        blocked = tasks.block_the_loop.enqueue("blocked")

        eventually(stage.failed, "the task is in the failed list")
        [entry] = stage.failed().values()
        assert (entry.id, entry.crashes) == (blocked.id, 1)
        assert "hung (signal SIGKILL)" in entry.failure.message
        assert "in block_the_loop" in entry.failure.traceback
        assert worker.log_lines("default#1 gave no sign of life for")
        stage.ledger.open("other")
        tasks.note.enqueue("after")
        stage.ledger.wait_for("after", "other-end")
        stage.until_empty()
        assert stage.ledger.counts()["other"] == 1

    def test_one_that_blocks_for_less_than_the_patience_is_left_alone(self, stage):
        worker = stage.worker()
        before = worker.actors()
        begin(stage, "blocked", task=tasks.block_the_loop)
        stage.ledger.open("blocked")
        stage.until_empty()

        assert worker.actors() == before
        assert stage.ledger.counts() == {"blocked": 1}


def test_what_a_task_has_left_behind_ends_with_its_actor_and_nobody_is_a_zombie(stage):
    worker = stage.worker()
    begin(stage, "left", task=tasks.leave_processes_behind)
    stage.until_empty()
    [entry] = stage.ledger.read("left")
    left = entry["left"]
    assert all(map(psutil.pid_exists, left))
    os.kill(entry["pid"], signal.SIGKILL)

    eventually(lambda: not any(map(psutil.pid_exists, left)), "their end and their burial")
    tasks.note.enqueue("after")
    stage.ledger.wait_for("after")
    children = psutil.Process(worker.process.pid).children(recursive=True)
    assert [child for child in children if child.status() == psutil.STATUS_ZOMBIE] == []


def test_what_a_task_has_left_behind_is_gone_when_the_worker_is(stage):
    worker = stage.worker()
    begin(stage, "left", task=tasks.leave_processes_behind)
    stage.until_empty()
    left = stage.ledger.read("left")[0]["left"]
    worker.send(signal.SIGTERM)

    assert worker.exit_code() == 0
    eventually(lambda: not any(map(_lives, left)), "their end")


class TestOtherProcesses:
    @pytest.mark.parametrize("task", [tasks.hold, tasks.ahold, tasks.block_the_loop])
    def test_with_the_supervisor_all_actors_are_gone_and_another_worker_runs_their_tasks(self, stage, task):
        stage.environment["VTASKS_LEASE"] = "2"
        first = stage.worker("--processes", "2", "--concurrency", "1")
        begin(stage, "one", "two", task=task)
        first.process.kill()

        eventually(lambda: not first.actors(), "the end of all actors", within=2.0)
        eventually(lambda: not first.processes(), "the end of all processes", within=5.0)
        stage.ledger.open("one", "two")
        stage.worker()
        stage.ledger.wait_for("one", "two", times=2, within=10)
        stage.until_empty()
        assert stage.failed() == {}

    def test_without_the_fork_server_the_worker_goes_on_and_new_actors_start(self, stage):
        worker = stage.worker("--processes", "2", "--concurrency", "1")
        begin(stage, "one", "two")
        [fork_server] = {psutil.Process(pid).ppid() for pid in worker.actors().values()}
        assert fork_server != worker.process.pid, "VACUOUS: nothing is forked by a server"
        os.kill(fork_server, signal.SIGKILL)
        eventually(lambda: not _lives(fork_server), "the death of the fork server")
        os.kill(stage.ledger.read("one")[0]["pid"], signal.SIGKILL)

        stage.ledger.wait_for("one", times=2)
        stage.ledger.open("one", "two")
        stage.until_empty()
        assert len(stage.ledger.read("two")) == 1
        assert stage.failed() == {}
        worker.send(signal.SIGTERM)
        assert worker.exit_code() == 0

    def test_with_a_frozen_fork_server_the_worker_drains_all_the_same(self, stage):
        """With more starts that hang than asyncio's own pool has threads."""
        processes = (os.cpu_count() or 1) + 5
        worker = stage.worker("--processes", str(processes), VTASKS_SHUTDOWN_TIMEOUT="2")
        eventually(lambda: len(worker.actors()) == processes, "all actors")
        [fork_server] = {psutil.Process(pid).ppid() for pid in worker.actors().values()}
        assert fork_server != worker.process.pid, "VACUOUS: nothing is forked by a server"
        begin(stage, "held")
        os.kill(fork_server, signal.SIGSTOP)
        for pid in worker.actors().values():
            os.kill(pid, signal.SIGKILL)
        worker.until_it_says(" ended: exit code unknown", times=processes)
        worker.send(signal.SIGTERM)

        worker.exit_code()
        os.kill(fork_server, signal.SIGKILL)
        stage.ledger.open("held")
        stage.worker()
        stage.until_empty()
        assert stage.failed() == {}


KILL_EVERY = 0.2
TASKS = 2000


class Hunter:
    """Kills one of a worker's actors every 200 ms."""

    def __init__(self, worker, chance):
        self.kills = 0
        self._worker = worker
        self._chance = chance
        self._due = 0.0

    def look(self):
        actors = list(self._worker.actors().values())
        if actors and time.monotonic() >= self._due:
            os.kill(self._chance.choice(actors), signal.SIGKILL)
            self.kills += 1
            self._due = time.monotonic() + KILL_EVERY


@both
def test_nothing_is_lost_while_actors_are_killed_at_random(stage, settings):
    settings(VTASKS_MAX_RESCUES=20)  # chance may kill the actor of the suspects with the same task some times
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    stage.enqueue_many(
        (chance.choice([tasks.work, tasks.awork]), (f"t{n}", round(chance.uniform(0, 0.02), 3)), {})
        for n in range(TASKS)
    )
    worker = stage.worker("--processes", "2", "--concurrency", "4")
    hunter = Hunter(worker, chance)

    def done():
        if stage.size() > TASKS / 10:
            hunter.look()
        return stage.size() == 0

    eventually(done, f"all tasks have ended, seed {seed}", within=90)
    counts = stage.ledger.counts()
    assert stage.failed() == {}, f"seed {seed}"
    assert counts.keys() == {f"t{n}" for n in range(TASKS)}, f"seed {seed}"
    assert hunter.kills >= 5, f"VACUOUS: {hunter.kills} kills, seed {seed}"
    assert worker.is_running
    sys.stdout.write(f"seed {seed}, {hunter.kills} kills, {counts.total() - TASKS} tasks run again\n")


def _lives(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
