"""Batches under faults: actors that die at any member, members that are no tasks, settings that are wrong."""

import json
import os
import random
import signal
import sys
import time
from typing import Any

import psutil
import pytest
from django.test import override_settings

from tests.batchapp import tasks
from tests.integration.probes import eventually
from tests.integration.projects import Project, call

everywhere = pytest.mark.parametrize(
    "alias",
    ["default", "postgres", "mariadb", "valkey"],
    indirect=True,
    ids=["sqlite", "postgresql", "mariadb", "valkey"],
)
on_two_stores = pytest.mark.parametrize("alias", ["default", "valkey"], indirect=True, ids=["sqlite", "valkey"])

ACTOR = "widgets (batch)"
LATE = 60.0
MEMBERS = 2000
KILLS = 6
SIZE = 6

SHOP = """
import os
import signal

from django_vtasks import task
from tests.workapp.tasks import entries, record, until_open


def number_of(member):
    return member["args"][0]


@task
def count(members):
    for member in members:
        record(f"count-{number_of(member)}")


@task
def die(members):
    \"\"\"Take the actor along, the first time, after the member with the number that the test has chosen.\"\"\"
    until_open("go")
    for member in members:
        record(f"die-{number_of(member)}")
        if number_of(member) == int(os.environ["DIES_AT"]) and not entries("died"):
            record("died")
            os.kill(os.getpid(), signal.SIGKILL)


@task
async def acount(members):
    for member in members:
        record(f"acount-{number_of(member)}")
"""


def batches(count=10, timeout=0.5):
    return {"VTASKS_BATCH_QUEUES": json.dumps({"widgets": {"count": count, "timeout": timeout}})}


@pytest.fixture(autouse=True)
def widgets():
    """Let this process know of the queue."""
    with override_settings(VTASKS_BATCH_QUEUES={"widgets": {}}):
        yield


def send(stage, task, numbers, **options):
    queued = task.using(queue_name="widgets", **options)
    return [result.id for result in stage.enqueue_many((queued, (), {"number": number}) for number in numbers)]


def members(task, numbers):
    return [call(f"shop.tasks.{task}", number, queue="widgets") for number in numbers]


# Actors that die ---------------------------------------------------------------------------------------------------


class TestCrash:
    @on_two_stores
    @pytest.mark.parametrize("dies_at", range(SIZE))
    def test_at_each_member_of_a_batch_loses_none_and_repeats_nothing_that_was_settled(self, stage, tmp_path, dies_at):
        project = Project(tmp_path / "project", "tests.workapp")
        project.app("shop", SHOP)
        stage.broker.push(
            [*members("count", range(SIZE)), *members("die", range(SIZE)), *members("acount", range(SIZE))]
        )
        stage.environment |= project.environment | {"DIES_AT": str(dies_at)}
        stage.worker(**batches(3 * SIZE, LATE))
        eventually(lambda: stage.size() == SIZE, "what has ended is settled, although another function runs")
        stage.ledger.open("go")

        stage.until_empty(60)
        counts = stage.ledger.counts()
        assert counts["died"] == 1, "VACUOUS: nobody died"
        for number in range(SIZE):
            assert counts[f"count-{number}"] == counts[f"acount-{number}"] == 1
            assert counts[f"die-{number}"] == (2 if number <= dies_at else 1)
        assert stage.failed() == {}

    @everywhere
    def test_at_random_moments_loses_none_and_fails_none(self, stage):
        seed = random.randrange(2**32)
        chance = random.Random(seed)
        for task, numbers in ((tasks.collect, range(0, MEMBERS, 2)), (tasks.acollect, range(1, MEMBERS, 2))):
            send(stage, task, numbers)
        worker = stage.worker(**batches(20, 0.1))
        kills, due, killed = 0, time.monotonic(), set()

        def done():
            nonlocal kills, due
            pid = worker.actors().get(ACTOR) if kills < KILLS and time.monotonic() >= due else None
            if pid is not None and pid not in killed and stage.broker.depth("widgets").waiting > 100:
                psutil.Process(pid).kill()
                killed.add(pid)
                kills, due = kills + 1, time.monotonic() + chance.uniform(0.0, 0.2)
            return stage.size() == 0

        eventually(done, f"all members have ended, seed {seed}", within=90)
        counts = stage.ledger.counts()
        ran = [counts[f"member-{number}"] + counts[f"amember-{number}"] for number in range(MEMBERS)]
        assert min(ran) >= 1, f"seed {seed}"
        assert stage.failed() == {}, f"seed {seed}"
        assert kills >= 2, f"VACUOUS: {kills} kills, seed {seed}"
        # Those of the batch that ran, and of some that had ended and were not settled.
        assert sum(ran) - MEMBERS <= 100 * kills, f"seed {seed}"
        sys.stdout.write(f"seed {seed}, {kills} kills, {sum(ran) - MEMBERS} members run again\n")


# Locks -------------------------------------------------------------------------------------------------------------


@everywhere
class TestUnique:
    def test_a_lock_is_free_when_its_member_has_ended_whatever_its_end_was(self, stage):
        good: Any = tasks.collect.using(queue_name="widgets", unique=True)
        bad: Any = tasks.boom.using(queue_name="widgets", unique=True)
        torn: Any = tasks.acollect.using(queue_name="widgets", unique=True)
        assert good.enqueue(number=1) is not None
        assert bad.enqueue(number=1) is not None
        stage.store.corrupt(torn.enqueue(number=1).id, b"torn")
        for task in (good, bad, torn):
            assert task.enqueue(number=1) is None
        stage.worker(**batches(timeout=0.1))
        eventually(lambda: stage.size() == 0 and len(stage.failed()) == 2, "all have ended")

        for task in (good, bad, torn):
            assert task.enqueue(number=1) is not None, task.func.__name__

    def test_a_lock_is_held_while_its_batch_runs_and_through_the_death_of_its_actor(self, stage):
        held: Any = tasks.gated.using(queue_name="widgets", unique=True)
        held.enqueue(number=1)
        worker = stage.worker(**batches(timeout=0.1))
        stage.ledger.wait_for("gated")
        assert held.enqueue(number=1) is None
        os.kill(worker.actors()[ACTOR], signal.SIGKILL)
        stage.ledger.wait_for("gated", times=2)
        assert held.enqueue(number=1) is None
        stage.ledger.open("gated")
        stage.until_empty()

        assert held.enqueue(number=1) is not None
        assert stage.failed() == {}


# Bad input ---------------------------------------------------------------------------------------------------------


@everywhere
def test_members_that_cannot_be_read_fail_each_alone_and_the_others_run_together(stage):
    chance = random.Random(52)
    garbage = [
        b"\0",
        b"no payload",
        b"{}",
        b"[1, 2",
        chance.randbytes(1000),
        b"\x28\xb5\x2f\xfd" + chance.randbytes(50),
    ]
    good = send(stage, tasks.collect, range(10))
    bad = send(stage, tasks.collect, range(10, 10 + len(garbage)))
    for task_id, payload in zip(bad, garbage, strict=True):
        stage.store.corrupt(task_id, payload)
    worker = stage.worker(**batches(16, LATE))

    stage.ledger.wait_for(*(f"member-{number}" for number in range(10)))
    stage.until_empty()
    [entry] = stage.ledger.read("collect")
    assert [member["id"] for member in entry["members"]] == good
    failed = stage.failed()
    assert failed.keys() == set(bad)
    assert {entry.failure.exception for entry in failed.values()} == {"django_vtasks.errors.PayloadError"}
    assert all(entry.failure.message for entry in failed.values())
    assert worker.is_running


WRONG = {
    "count 0": ({"count": 0}, "VTASKS_BATCH_QUEUES has count = 0 in queue 'widgets', which must be a whole number"),
    "a negative time": (
        {"timeout": -5},
        "VTASKS_BATCH_QUEUES has timeout = -5 in queue 'widgets', which must be a pos",
    ),
    "an unknown option": ({"size": 5}, "VTASKS_BATCH_QUEUES has an unknown option 'size' in queue 'widgets'."),
}


@pytest.mark.parametrize("wrong", WRONG)
class TestWrongSettings:
    """With tasks modules or without: they cannot be declared while the settings are wrong."""

    def test_are_one_clear_line_at_the_start(self, stage, wrong):
        options, complaint = WRONG[wrong]
        worker = stage.start(VTASKS_BATCH_QUEUES=json.dumps({"widgets": options}))

        assert worker.exit_code() == 2
        [line] = worker.log.splitlines()
        assert complaint in line

    def test_are_told_by_check(self, stage, wrong):
        options, complaint = WRONG[wrong]
        command = ("-m", "django", "check")
        check = stage.start(command=command, VTASKS_BATCH_QUEUES=json.dumps({"widgets": options}))

        assert check.exit_code() == 1
        [line] = check.log_lines("vtasks.E001")
        assert complaint in line
