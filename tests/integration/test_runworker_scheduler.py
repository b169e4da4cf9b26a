"""Schedulers: one leads, and each slot is enqueued once, whatever becomes of the leader."""

import json
import os
import signal
import time
import urllib.request

import pytest

from tests import servers
from tests.integration.probes import eventually

everywhere = pytest.mark.parametrize(
    "alias",
    ["default", "postgres", "mariadb", "valkey"],
    indirect=True,
    ids=["sqlite", "postgresql", "mariadb", "valkey"],
)

ROLE = "scheduler"
NOTE = "tests.workapp.tasks.note"
EVERY = 0.2
LEASE = 3.0
SIGN = "tests.workapp.tasks.note_context"
OFTEN = {"tick": {"task": SIGN, "schedule": EVERY, "args": ["tick"], "misfire": "all"}}
"""With "all", no slot is left out: there are as many tasks as slots, or one was lost or done twice."""


@pytest.fixture
def start(stage):
    """Give a function that starts a worker with a scheduler."""

    def start(*options, schedule=OFTEN, **environment):
        environment = {"VTASKS_LEASE": str(LEASE), "VTASKS_SCHEDULE": json.dumps(schedule)} | environment
        return stage.worker("--scheduler", *options, **environment)

    return start


def ticks(stage, key="tick"):
    return stage.ledger.counts()[key]


def until_more_ticks(stage, than=0, within=20.0, key="tick"):
    eventually(lambda: ticks(stage, key) > than, f"more than {than} runs of {key!r}", within)


def assert_each_slot_is_one_task(stage, workers):
    """End all workers, let one more run what they left, and compare the tasks that ran with the store's slots.

    One that was running when its worker was killed, or frozen beyond its lease, has run twice: it is tasks that count.
    """
    for worker in workers:
        if worker.is_running:
            worker.send(signal.SIGTERM)
            assert worker.exit_code(15.0) == 0
    stage.worker()
    stage.until_empty()
    standing = stage.broker.standings()["tick"]
    slots = round(standing.last / EVERY) - int(standing.since // EVERY)
    assert len({entry["id"] for entry in stage.ledger.read("tick")}) == slots
    assert stage.failed() == {}


def leader_among(stage, workers):
    """Return the worker that leads, and the others."""
    name = eventually(lambda: stage.broker.leader(ROLE), "somebody leads")
    pids = {int(name.split("-")[-2]): name}
    [leader] = [worker for worker in workers if worker.process.pid in pids]
    return leader, [worker for worker in workers if worker is not leader]


@everywhere
class TestEachSlotOnce:
    def test_with_several_schedulers(self, stage, start):
        workers = [start(), start()]
        until_more_ticks(stage, 10)

        assert_each_slot_is_one_task(stage, workers)
        assert len({entry["id"] for entry in stage.ledger.read("tick")}) == ticks(stage)

    def test_when_the_leader_and_all_its_processes_are_killed(self, stage, start):
        leader, [other] = leader_among(stage, [start(), start()])
        until_more_ticks(stage)
        leader.kill()
        killed_at, before = time.monotonic(), ticks(stage)
        until_more_ticks(stage, before + 5, within=3 * LEASE)

        assert time.monotonic() - killed_at < LEASE + 5 * EVERY + 1.0
        assert_each_slot_is_one_task(stage, [other])

    def test_when_the_leader_is_frozen_beyond_its_term_and_goes_on(self, stage, start):
        leader, [other] = leader_among(stage, [start(), start()])
        until_more_ticks(stage)
        leader.freeze()
        eventually(lambda: stage.broker.leader(ROLE) not in {None, _node_of(stage, leader)}, "the other leads", 20.0)
        until_more_ticks(stage, ticks(stage) + 3)
        leader.thaw()
        until_more_ticks(stage, ticks(stage) + 10)

        assert_each_slot_is_one_task(stage, [leader, other])

    def test_when_the_scheduler_actor_alone_is_killed(self, stage, start):
        worker = start()
        until_more_ticks(stage)
        for _ in range(3):
            os.kill(eventually(lambda: worker.actors().get(ROLE), "there is a scheduler"), signal.SIGKILL)
            until_more_ticks(stage, ticks(stage) + 3)

        assert_each_slot_is_one_task(stage, [worker])

    def test_when_the_leader_is_stopped_another_follows_at_once(self, stage, start):
        leader, [other] = leader_among(stage, [start(VTASKS_LEASE="15"), start(VTASKS_LEASE="15")])
        until_more_ticks(stage)
        leader.send(signal.SIGTERM)
        assert leader.exit_code(10.0) == 0
        until_more_ticks(stage, ticks(stage) + 1, within=5.0)

        assert_each_slot_is_one_task(stage, [other])


def _node_of(stage, worker):
    return next((node for node in stage.broker.nodes() if f"-{worker.process.pid}-" in node), "?")


@everywhere
def test_an_entry_that_is_wrong_is_told_of_and_the_others_run(stage, start):
    wrong = {
        "april": {"task": NOTE, "schedule": "0 0 31 4 *"},
        "nowhere": {"task": "tests.workapp.tasks.missing", "schedule": 1},
    }
    worker = start(schedule=OFTEN | wrong)
    until_more_ticks(stage)

    for name in wrong:
        assert len(worker.log_lines("ERROR", f"'{name}'")) == 1, name
    assert stage.broker.standings().keys() == {"tick"}


def test_a_run_that_has_not_ended_keeps_the_next_from_being_enqueued(stage, start):
    start(
        schedule={"hold": {"task": "tests.workapp.tasks.hold", "schedule": EVERY, "args": ["held"], "overlap": "skip"}}
    )
    stage.ledger.wait_for("held")
    slot = stage.broker.standings()["hold"].last
    eventually(lambda: stage.broker.standings()["hold"].last > slot + 5 * EVERY, "slots go by")
    assert stage.ledger.counts()["held"] == 1
    stage.ledger.open("held")

    stage.ledger.wait_for("held", times=2)


def test_a_worker_that_was_down_makes_up_for_the_last_slot_only(stage, start):
    entry = {"tick": {"task": NOTE, "schedule": EVERY, "args": ["tick"]}}
    first = start(schedule=entry)
    until_more_ticks(stage)
    first.send(signal.SIGTERM)
    assert first.exit_code(10.0) == 0
    before, last = ticks(stage), stage.broker.standings()["tick"].last
    eventually(lambda: time.time() > last + LEASE + 10 * EVERY, "slots are missed")
    start(schedule=entry)
    until_more_ticks(stage, before + 1)

    standing = stage.broker.standings()["tick"]
    assert ticks(stage) - before <= round((standing.last - last) / EVERY) - 10


def test_with_an_empty_schedule_the_worker_says_so_and_works(stage, start):
    worker = start(schedule={})

    assert worker.log_lines("WARNING", "VTASKS_SCHEDULE is empty")


def test_without_the_option_nothing_is_scheduled(stage):
    worker = stage.worker(VTASKS_SCHEDULE=json.dumps(OFTEN))

    assert ROLE not in worker.actors()
    assert stage.broker.standings() == {}


def test_a_burst_has_no_scheduler(stage):
    worker = stage.start("--burst", "--scheduler")

    assert worker.exit_code(20.0) == 2
    assert "--burst" in worker.log


def test_health_tells_of_each_entry(stage, start):
    port = servers.free_port()
    start("--health-port", str(port))
    until_more_ticks(stage)

    def schedule():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return json.load(answer)["schedule"]

    told = eventually(
        lambda: (found := schedule()) and found.get("entries", {}).get("tick", {}).get("last") and found, ""
    )
    assert told["leads"] is True
    assert told["leader"] == stage.broker.leader(ROLE)
    tick = told["entries"]["tick"]
    assert tick["last"] < tick["next"] <= tick["last"] + 11


@pytest.mark.parametrize(
    ("schedule", "kind"),
    [
        ({"tick": {"task": "tests.workapp.tasks.note", "schedule": 1, "args": "hunter2"}}, "str"),
        ({"tick": {"task": "tests.workapp.tasks.note", "schedule": 1, "kwargs": ["hunter2"]}}, "list"),
        ({"tick": ["tests.workapp.tasks.note", 1, "hunter2"]}, "list"),
        ([{"task": "tests.workapp.tasks.note", "schedule": 1, "args": ["hunter2"]}], "str"),
        ("hunter2", "str"),
    ],
    ids=["args", "kwargs", "an entry", "all", "text"],
)
def test_what_is_said_of_a_schedule_that_is_not_valid_shows_no_arguments(stage, schedule, kind):
    worker = stage.start("--scheduler", VTASKS_SCHEDULE=json.dumps(schedule))
    worker.until_it_says(f"of type {kind}")

    assert worker.log_lines("VTASKS_SCHEDULE", f"of type {kind}")
    assert "hunter2" not in worker.log
