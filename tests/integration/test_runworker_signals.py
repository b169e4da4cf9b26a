"""Signals to a tree of processes: to all at once, at any time, to one of them alone."""

import os
import random
import signal
import time

import psutil
import pytest

from tests.integration.probes import eventually
from tests.workapp import tasks

everywhere = pytest.mark.parametrize(
    "alias", ["default", "postgres", "valkey"], indirect=True, ids=["sqlite", "postgresql", "valkey"]
)

HANG = 15.0
TREE = ("--processes", "2", "--concurrency", "2")
ACTORS = {"default#1", "default#2"}


def send_to_all(worker, number):
    for process in worker.processes():
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def full(worker):
    return worker.actors().keys() == ACTORS


def leaves_nothing(worker):
    eventually(lambda: not worker.processes(), "the end of all processes")


@pytest.fixture
def tree(stage):
    """A worker with two actors that both take tasks."""
    worker = stage.start(*TREE)
    worker.until_it_says("takes tasks of", times=2)
    return worker


class TestSigtermToAllAtOnce:
    @everywhere
    def test_what_runs_finishes_and_what_waits_goes_back(self, stage, tree):
        held = ["a", "b", "c", "d"]
        for key in held:
            tasks.hold.enqueue(key)
        stage.ledger.wait_for(*held)
        waiting = {tasks.note.enqueue(f"waiting{n}").id for n in range(5)}
        send_to_all(tree, signal.SIGTERM)
        tree.until_it_says("drains")
        send_to_all(tree, signal.SIGTERM)
        stage.ledger.open(*held)

        assert tree.exit_code(HANG) == 0
        leaves_nothing(tree)
        assert stage.ledger.counts() == dict.fromkeys((*held, *(f"{key}-end" for key in held)), 1)
        assert {(row.task_id in waiting, row.attempt, row.crashes) for row in stage.rows()} == {(True, 0, 0)}
        assert stage.size() == 5
        assert stage.broker.nodes() == {}

    @pytest.mark.parametrize("earliest", [0.0, 0.2, 0.4, 0.6, 0.8])
    def test_during_start_up_it_loses_nothing_and_leaves_no_process(self, stage, earliest):
        """Before, while and after the fork server imports, the store answers and the actors start."""
        seed = random.randrange(2**32)
        chance = random.Random(seed)
        ids = {tasks.anote.enqueue(f"n{n}").id for n in range(20)}
        moment = chance.uniform(earliest, earliest + 0.2)
        worker = stage.start(*TREE)
        eventually(lambda: time.monotonic() >= worker.started_at + moment, f"moment {moment:.3f} of seed {seed}")
        was_ready = worker.is_ready
        send_to_all(worker, signal.SIGTERM)
        code = worker.exit_code(HANG)
        leaves_nothing(worker)

        # Until its handlers are there, the interpreter itself obeys.
        assert code == 0 or (not was_ready and code in {-signal.SIGTERM, 1}), f"exit code {code}, seed {seed}"
        assert stage.running() == 0, f"seed {seed}"
        assert {(row.attempt, row.crashes) for row in stage.rows()} <= {(0, 0)}, f"seed {seed}"
        assert stage.start("--burst").exit_code() == 0
        assert stage.ledger.counts() == {f"n{n}": 1 for n in range(20)}, f"seed {seed}"
        assert not stage.failed().keys() & ids


@everywhere
def test_an_actor_that_alone_is_told_to_end_is_replaced_and_nothing_is_lost(stage, tree):
    for key in "abcd":
        tasks.hold.enqueue(key)
    stage.ledger.wait_for(*"abcd")
    for number in range(4):
        tasks.note_context.enqueue(f"waiting{number}")
    before = tree.actors()
    os.kill(before["default#1"], signal.SIGTERM)
    stage.ledger.open(*"abcd")

    stage.until_empty()
    eventually(lambda: full(tree) and tree.actors()["default#1"] != before["default#1"], "another default#1")
    assert tree.actors()["default#2"] == before["default#2"]
    assert set(stage.ledger.counts().values()) == {1}
    assert {entry["attempt"] for n in range(4) for entry in stage.ledger.read(f"waiting{n}")} == {1}
    assert stage.failed() == {}
    assert not tree.log_lines("WARNING", "Took back")


@everywhere
@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGQUIT,)], ids=["INT-INT", "QUIT"])
def test_a_second_sigint_and_any_sigquit_give_everything_back_at_once(stage, numbers):
    worker = stage.start(*TREE, VTASKS_SHUTDOWN_TIMEOUT="60")
    worker.until_it_says("takes tasks of", times=2)
    ids = {tasks.hold.enqueue("a").id, tasks.ahold.enqueue("b").id, tasks.block_the_loop.enqueue("c").id}
    stage.ledger.wait_for("a", "c")
    ids |= {tasks.note.enqueue(f"waiting{n}").id for n in range(10)}
    for number in numbers:
        # From a terminal it comes to all.
        send_to_all(worker, number)
        worker.until_it_says("drains")

    assert worker.exit_code(5.0) == 0
    leaves_nothing(worker)
    done = {f"waiting{n}" for n in range(10)} & stage.ledger.counts().keys()
    assert {row.task_id for row in stage.rows()} <= ids
    assert stage.size() == len(ids) - len(done)
    assert {(row.state, row.attempt, row.crashes) for row in stage.rows()} <= {(0, 0, 0)}
    assert stage.broker.nodes() == {}


class TestPause:
    @everywhere
    def test_a_paused_worker_takes_nothing_while_what_runs_goes_on(self, stage, tree):
        for key in ("a", "b"):
            tasks.hold.enqueue(key)
        stage.ledger.wait_for("a", "b")
        tree.send(signal.SIGTSTP)
        tree.until_it_says("takes no new tasks", times=2)
        stage.enqueue_many([(tasks.note, (f"waiting{n}",), {}) for n in range(5)])
        stage.ledger.open("a", "b")
        eventually(lambda: stage.size() == 5, "what was running has ended")
        assert stage.running() == 0
        assert set(stage.ledger.counts()) == {"a", "a-end", "b", "b-end"}
        tree.send(signal.SIGCONT)

        stage.until_empty()
        assert set(stage.ledger.counts().values()) == {1}

    def test_one_that_pauses_under_load_keeps_nothing_to_itself(self, stage):
        stage.enqueue_many([(tasks.awork, (f"w{n}", 0.002), {}) for n in range(600)])
        worker = stage.start(*TREE)
        stage.ledger.wait_for("w20")
        worker.send(signal.SIGTSTP)
        worker.until_it_says("takes no new tasks", times=2)

        eventually(lambda: stage.running() == 0, "nothing is on its books", within=5)
        assert stage.size() > 0, "VACUOUS: all was done"
        worker.send(signal.SIGCONT)
        stage.until_empty()
        assert set(stage.ledger.counts().values()) == {1}

    def test_an_actor_that_starts_meanwhile_is_paused_too(self, stage, tree):
        tree.send(signal.SIGTSTP)
        tree.until_it_says("takes no new tasks", times=2)
        os.kill(tree.actors()["default#1"], signal.SIGKILL)
        tree.until_it_says("takes no new tasks", times=3)
        stage.enqueue_many([(tasks.note, (f"waiting{n}",), {}) for n in range(5)])
        tree.send(signal.SIGCONT)

        stage.until_empty()

    def test_a_paused_worker_drains(self, stage, tree):
        tree.send(signal.SIGTSTP)
        tree.until_it_says("takes no new tasks", times=2)
        tree.send(signal.SIGTERM)

        assert tree.exit_code(5.0) == 0
        leaves_nothing(tree)


@everywhere
def test_sighup_replaces_every_actor_without_a_gap_and_without_losing_anything(stage, tree):
    before = tree.actors()
    stage.enqueue_many([(tasks.awork, (f"w{n}", 0.01), {}) for n in range(800)])
    stage.ledger.wait_for("w10")
    tree.send(signal.SIGHUP)
    seen = []

    def replaced():
        # A look takes so long that one may go and another come meanwhile.
        earlier, now = tree.actors(), tree.actors()
        seen.append(earlier.keys() | now.keys() >= ACTORS)
        return now.keys() == ACTORS and not set(now.values()) & set(before.values())

    eventually(replaced, "two other actors")
    assert stage.size() > 0, "VACUOUS: all was done before"
    stage.until_empty()
    assert all(seen), "a queue was without one of its actors"
    assert stage.ledger.counts() == {f"w{n}": 1 for n in range(800)}
    assert stage.failed() == {}


def test_sigusr1_logs_the_state_of_all_actors_and_sigusr2_their_stacks(stage, tree):
    before = tree.actors()
    tasks.hold.enqueue("held")
    stage.ledger.wait_for("held")
    tree.send(signal.SIGUSR1)
    tree.send(signal.SIGUSR2)

    for name, pid in before.items():
        tree.until_it_says(f"{name}: ready, pid {pid}, incarnation 1")
        tree.until_it_says(f"Stacks of {name}:")
    tree.until_it_says("in until_open")
    stage.ledger.open("held")
    stage.until_empty()
    assert tree.actors() == before
