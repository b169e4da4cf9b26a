"""Batch queues: who collects what until when, what becomes of each member, and that a crash loses none."""

import json
import os
import signal
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone

from tests.batchapp import tasks
from tests.integration.probes import eventually
from tests.workapp.tasks import note

everywhere = pytest.mark.parametrize(
    "alias",
    ["default", "postgres", "mariadb", "valkey"],
    indirect=True,
    ids=["sqlite", "postgresql", "mariadb", "valkey"],
)

SOON = 0.5
"""Seconds after the first member at which a batch starts in most tests; LATE is for those that do not wait so long."""
LATE = 60.0
ACTOR = "widgets (batch)"


@pytest.fixture
def start(stage):
    """Give a function that starts a worker which batches the queue "widgets"; this process knows of it, too."""

    def start(*options, count=10, timeout=SOON, **environment):
        batches = json.dumps({"widgets": {"count": count, "timeout": timeout}})
        return stage.worker(*options, VTASKS_BATCH_QUEUES=batches, **environment)

    with override_settings(VTASKS_BATCH_QUEUES={"widgets": {}}):
        yield start


def send(stage, task, numbers, **options):
    """Enqueue members; return their ids."""
    queued = task.using(queue_name="widgets", **options)
    return [result.id for result in stage.enqueue_many((queued, (), {"number": number}) for number in numbers)]


def batches_of(stage, key):
    """Return the numbers of the members of each batch."""
    return [[member["kwargs"]["number"] for member in entry["members"]] for entry in stage.ledger.read(key)]


def assert_each_ran_once(stage, prefix, numbers, within=30.0):
    keys = [f"{prefix}-{number}" for number in numbers]
    stage.ledger.wait_for(*keys, within=within)
    stage.until_empty()
    counts = stage.ledger.counts()
    assert {key: counts[key] for key in keys} == dict.fromkeys(keys, 1)


@everywhere
class TestCollecting:
    def test_a_batch_is_one_call_with_what_is_known_of_each_member(self, stage, start):
        began = timezone.now()
        first, second = send(stage, tasks.collect, [1, 2])
        start()

        [entry] = stage.ledger.wait_for("collect")
        stage.until_empty()
        one, two = entry["members"]
        assert (one["id"], two["id"]) == (first, second)
        assert (one["queue"], one["func"], one["attempt"]) == ("widgets", "tests.batchapp.tasks.collect", 1)
        assert (one["args"], one["kwargs"], two["kwargs"]) == ([], {"number": 1}, {"number": 2})
        assert datetime.fromisoformat(one["enqueued_at"]) >= began - timedelta(seconds=1)

    def test_there_are_no_more_members_than_count(self, stage, start):
        send(stage, tasks.collect, range(25))
        start(count=10)

        assert_each_ran_once(stage, "member", range(25))
        assert batches_of(stage, "collect") == [list(range(10)), list(range(10, 20)), list(range(20, 25))]

    def test_a_batch_may_be_large(self, stage, start):
        send(stage, tasks.collect, range(1500))
        start(count=1500, timeout=LATE)

        [entry] = stage.ledger.wait_for("collect", within=30.0)
        stage.until_empty()
        assert len(entry["members"]) == 1500

    def test_a_full_batch_does_not_wait(self, stage, start):
        start(count=3, timeout=LATE)
        send(stage, tasks.collect, range(3))

        assert_each_ran_once(stage, "member", range(3), within=10.0)

    def test_what_comes_within_the_time_of_the_first_member_is_with_it(self, stage, start):
        start(timeout=3.0)
        send(stage, tasks.collect, [1])
        eventually(lambda: stage.running() == 1, "the first member is collected")
        send(stage, tasks.collect, [2])
        eventually(lambda: stage.running() == 2, "so is the second")
        assert stage.ledger.counts()["collect"] == 0

        assert_each_ran_once(stage, "member", [1, 2])
        assert batches_of(stage, "collect") == [[1, 2]]

    def test_each_function_is_called_once_for_its_members(self, stage, start):
        for number in range(4):
            send(stage, tasks.collect if number % 2 else tasks.acollect, [number])
        start(count=4, timeout=LATE)

        stage.ledger.wait_for("collect", "acollect")
        stage.until_empty()
        assert (batches_of(stage, "collect"), batches_of(stage, "acollect")) == ([[1, 3]], [[0, 2]])

    def test_delayed_and_unique_tasks_are_members_as_all_others(self, stage, start):
        unique: Any = tasks.collect.using(queue_name="widgets", unique=True)
        assert unique.enqueue(number=1) is not None
        assert unique.enqueue(number=1) is None
        send(stage, tasks.collect, [2], run_after=timezone.now() + timedelta(seconds=1))
        start(timeout=0.1)

        assert_each_ran_once(stage, "member", [1, 2])
        assert unique.enqueue(number=1) is not None

    def test_a_burst_runs_what_there_is_without_waiting_for_more(self, stage, start):
        first: Any = tasks.chained.using(queue_name="widgets")
        first.enqueue(generation=1)
        worker = start("--burst", timeout=LATE)

        assert worker.exit_code(20.0) == 0
        assert stage.ledger.counts()["chained"] == 3
        assert stage.size() == 0


@everywhere
class TestFates:
    def test_a_function_that_raises_fails_its_members_and_no_others(self, stage, start):
        failing = send(stage, tasks.boom, range(3))
        send(stage, tasks.collect, [7])
        start(count=4, timeout=LATE)

        assert_each_ran_once(stage, "member", [7])
        failed = stage.failed()
        assert failed.keys() == set(failing)
        for entry in failed.values():
            assert (entry.failure.exception, entry.failure.message) == ("builtins.ValueError", "the whole batch")
            assert "in boom" in entry.failure.traceback
        assert stage.ledger.counts()["boom"] == 1

    def test_a_function_may_say_of_each_member_what_became_of_it(self, stage, start):
        ids = send(stage, tasks.choosy, range(4))
        first, *_ = send(stage, tasks.picky, range(3))
        start(count=7, timeout=LATE)

        eventually(lambda: stage.size() == 0 and len(stage.failed()) == 3, "three members have failed")
        reasons = {task_id: entry.failure.exception for task_id, entry in stage.failed().items()}
        assert reasons == {ids[1]: "builtins.ValueError", ids[3]: "builtins.ValueError", first: "builtins.KeyError"}

    def test_a_member_that_cannot_be_run_fails_alone(self, stage, start):
        [with_context] = send(stage, tasks.with_context, [1])
        [unreadable] = send(stage, tasks.collect, [2])
        stage.store.corrupt(unreadable, b"no payload")
        send(stage, tasks.collect, [3])
        start(timeout=0.2)

        stage.ledger.wait_for("member-3")
        stage.until_empty()
        assert stage.failed().keys() == {with_context, unreadable}
        assert "takes_context" in stage.failed()[with_context].failure.message


@everywhere
class TestCrashes:
    @pytest.mark.parametrize("phase", ["collecting", "running"])
    def test_kill_9_loses_no_member(self, stage, start, phase):
        worker = start(count=10, timeout=2.0 if phase == "collecting" else 0.1)
        send(stage, tasks.gated, range(5))
        if phase == "collecting":
            eventually(lambda: stage.running() == 5, "all members are collected")
        else:
            stage.ledger.wait_for("gated")
        os.kill(worker.actors()[ACTOR], signal.SIGKILL)
        stage.ledger.open("gated")

        assert_each_ran_once(stage, "gated", range(5))
        assert stage.failed() == {}

    def test_the_member_that_kills_its_actors_is_found_and_the_others_run(self, stage, start):
        ids = send(stage, tasks.poisoned, range(10, 16))
        start(timeout=0.1)

        others = [number for number in range(10, 16) if number != 13]
        stage.ledger.wait_for(*(f"poisoned-{number}" for number in others))
        eventually(lambda: ids[3] in stage.failed(), "the poison is given up", within=60.0)
        stage.until_empty()
        assert stage.failed().keys() == {ids[3]}


@everywhere
class TestDrain:
    def test_a_partial_batch_is_run_and_not_thrown_back(self, stage, start):
        worker = start(timeout=LATE)
        send(stage, tasks.collect, range(3))
        eventually(lambda: stage.running() == 3, "all members are collected")
        worker.send(signal.SIGTERM)

        assert worker.exit_code(15.0) == 0
        assert_each_ran_once(stage, "member", range(3))

    def test_what_does_not_end_in_time_goes_back(self, stage, start):
        worker = start(timeout=0.1, VTASKS_SHUTDOWN_TIMEOUT="4")
        send(stage, tasks.agated, range(3))
        stage.ledger.wait_for("agated")
        began = time.monotonic()
        worker.send(signal.SIGTERM)

        assert worker.exit_code(15.0) == 0
        assert time.monotonic() - began < 6.0
        assert stage.size() == 3
        assert stage.running() == 0
        stage.ledger.open("agated")
        start(timeout=0.1)
        assert_each_ran_once(stage, "agated", range(3))


def test_other_queues_have_actors_of_their_own(stage, start):
    worker = start(timeout=0.1)
    note.enqueue("plain")
    send(stage, tasks.collect, [1])

    stage.ledger.wait_for("plain", "member-1")
    assert worker.actors().keys() == {"default#1", ACTOR}


def test_without_batch_queues_there_is_no_batching_actor(stage):
    worker = stage.worker()

    assert worker.actors().keys() == {"default#1"}
