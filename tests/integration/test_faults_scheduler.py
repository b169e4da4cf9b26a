"""Schedulers that are cut off, whose clocks differ or jump, or that are down: no slot twice, none without reason."""

import json
import os
import signal
import time
from functools import partial
from itertools import count

import pytest
from django.db import connections

from tests import databases
from tests.integration.outages import POSTGRES_SOCKET, Line
from tests.integration.probes import eventually
from tests.integration.proxies import Proxy
from tests.integration.valkeys import own_valkey
from tests.integration.workers import IMPATIENT

on_two_stores = pytest.mark.parametrize("alias", ["default", "valkey"], indirect=True, ids=["sqlite", "valkey"])

ROLE = "scheduler"
NOTE = "tests.workapp.tasks.note"
AWAY = "away"
EVERY = 0.2
LEASE = 3.0
HOUR = 3600
SKEW = 300
FOLLOWS_WITHIN = 15.0
SILENCE = 2.5
"""Seconds without a slot that say that there will be none."""
OFTEN = {"tick": {"task": NOTE, "schedule": EVERY, "args": ["tick"], "misfire": "all"}}
POLICIES = ("latest", "skip", "all")

CLOCK = """
import os, pathlib, time

def now(usual=time.time, offset=pathlib.Path(os.environ["TEST_CLOCK"])):
    return usual() + float(offset.read_text())

time.time = now
"""
"""Put before all that a worker does: its clock is off by what a file says."""


class Clock:
    """The clock of a host, which is off by as much as the test says."""

    def __init__(self, directory, name):
        self._offset = directory / name
        self.environment = {
            "PYTHONPATH": os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")]),
            "TEST_CLOCK": str(self._offset),
        }
        (directory / "sitecustomize.py").write_text(CLOCK)
        self.set(0.0)

    def set(self, offset):
        draft = self._offset.with_suffix(".draft")
        draft.write_text(repr(float(offset)))
        draft.replace(self._offset)


@pytest.fixture
def clock(tmp_path):
    """Give a function that makes the clock of a host."""
    return partial(Clock, tmp_path)


def scheduler(stage, *options, schedule=OFTEN, **environment):
    """Start a worker that schedules, and takes no task of the queue "default"."""
    told = {"VTASKS_LEASE": str(LEASE), "VTASKS_SCHEDULE": json.dumps(schedule), "VTASKS_QUEUES": "idle"}
    return stage.worker("--scheduler", "--queue", "idle", *options, **told | environment)


def leader(stage):
    """Return the name that the leader was given, if anybody leads."""
    return (stage.broker.leader(ROLE) or "").partition("-")[0]


def until_leads(stage, name, within=FOLLOWS_WITHIN):
    eventually(lambda: leader(stage) == name, f"{name} leads", within)


def until_more_ticks(stage, than):
    eventually(lambda: ticks(stage) > than, f"more than {than} runs")


def ticks(stage):
    return stage.ledger.counts()["tick"]


def last(stage):
    return stage.broker.standings()["tick"].last


def pass_time(seconds):
    began = time.monotonic()
    eventually(lambda: time.monotonic() > began + seconds, "time has passed", seconds + 1)


def end(worker):
    worker.send(signal.SIGTERM)
    assert worker.exit_code(15.0) == 0


def assert_each_slot_ran_once(stage):
    """Compare the runs with the slots of the store, which are all there are: no clock was wrong."""
    stage.until_empty()
    standing = stage.broker.standings()["tick"]
    assert ticks(stage) == round(standing.last / EVERY) - int(standing.since // EVERY)
    assert stage.failed() == {}


# A leader that is cut off ------------------------------------------------------------------------------------------


class TestPartition:
    """Two schedulers, of which the leader alone loses its store; another worker runs the tasks."""

    def cut_off_and_join_again(self, stage, line, cut, join, **at_the_far_end):
        stage.worker("--id", "runner")
        far = scheduler(stage, "--id", "far", **at_the_far_end)
        until_leads(stage, "far")
        near = scheduler(stage, "--id", "near")
        until_more_ticks(stage, 5)
        cut(line)
        until_leads(stage, "near")
        until_more_ticks(stage, ticks(stage) + 10)
        assert far.is_running, "VACUOUS: the leader is not there any more"
        far.until_it_says("Cannot keep the schedule")
        join(line)
        far.until_it_says("leads the schedule no more")
        until_more_ticks(stage, ticks(stage) + 10)
        assert leader(stage) == "near"

        end(near)
        until_leads(stage, "far")
        until_more_ticks(stage, ticks(stage) + 5)
        end(far)
        assert_each_slot_ran_once(stage)

    @pytest.mark.parametrize("is_heard", [False, True], ids=["silence", "heard and not answered"])
    def test_on_valkey(self, stages, is_heard):
        databases.require_server("valkey")
        with own_valkey() as server:
            line = Proxy(server.port)
            stage = stages("valkey", TEST_TASKS_VALKEY=server.url)

            def cut(line):
                assert line.go_dead(is_heard=is_heard) >= 1, "VACUOUS: nothing was connected"

            try:
                self.cut_off_and_join_again(stage, line, cut, Proxy.revive, TEST_TASKS_VALKEY=line.url)
            finally:
                stage.stop()
                line.close()

    @pytest.mark.parametrize("alias", ["postgres"], indirect=True, ids=["postgresql"])
    def test_on_postgresql(self, alias, stage):
        line = Line(connections[alias].settings_dict["HOST"])

        def cut(line):
            (line.directory / POSTGRES_SOCKET).rename(line.directory / AWAY)
            line.go_dead()

        def join(line):
            (line.directory / AWAY).rename(line.directory / POSTGRES_SOCKET)

        try:
            self.cut_off_and_join_again(stage, line, cut, join, TEST_POSTGRES_HOST=str(line.directory), **IMPATIENT)
        finally:
            stage.stop()
            line.close()


# Clocks that differ ------------------------------------------------------------------------------------------------


@on_two_stores
class TestSkew:
    """Two hosts, one of whose clocks is five minutes off: leases are the store's affair, slots the leader's."""

    @pytest.fixture
    def hosts(self, stage, clock):
        """Give a function that starts a leader and a follower with these offsets; nobody's lease suffers of them."""

        def hosts(first, second):
            workers = []
            for name, offset in (("first", first), ("second", second)):
                host = clock(name)
                host.set(offset)
                entry = OFTEN["tick"] | {"misfire": "latest"}
                workers.append(scheduler(stage, "--id", name, schedule={"tick": entry}, **host.environment))
                until_leads(stage, "first")
            stage.worker("--id", "runner")
            return workers

        yield hosts
        for worker in stage.workers:
            assert "had run out" not in worker.log
            assert "Took back" not in worker.log
        assert stage.failed() == {}

    def lead_for_a_lease(self, stage, offset):
        """Let a leader run slots by its clock for as long as it takes to lose a lease that is judged by it."""
        until_more_ticks(stage, 10)
        assert abs(last(stage) - time.time() - offset) < FOLLOWS_WITHIN, "VACUOUS: the clock is not off"
        pass_time(LEASE)
        assert leader(stage) == "first"
        assert len(stage.broker.nodes()) == 3

    @pytest.mark.parametrize(("first", "second"), [(SKEW, 0), (0, -SKEW)], ids=["ahead, right", "right, behind"])
    def test_a_leader_that_is_behind_the_last_slot_does_nothing_twice(self, stage, hosts, first, second):
        leading, _ = hosts(first, second)
        self.lead_for_a_lease(stage, first)
        end(leading)
        until_leads(stage, "second")
        stage.until_empty()
        ran, slot = ticks(stage), last(stage)
        pass_time(SILENCE)

        assert (ticks(stage), last(stage)) == (ran, slot)
        assert leader(stage) == "second"

    def test_a_leader_that_is_ahead_of_the_last_slot_makes_up_for_one_alone(self, stage, hosts):
        leading, following = hosts(0, SKEW)
        self.lead_for_a_lease(stage, 0)
        stage.until_empty()
        ran, ended = ticks(stage), time.time()
        end(leading)
        until_leads(stage, "second")
        following.until_it_says("Slots were missed while nobody led")
        until_more_ticks(stage, ran + 10)
        end(following)
        stage.until_empty()

        assert last(stage) - ended > SKEW, "VACUOUS: nothing was missed"
        # What either has run in its time, the one, and what begins or ends between two looks of this test.
        assert ticks(stage) - ran <= (last(stage) - SKEW - ended) / EVERY + 1 + 3

    def test_under_a_leader_that_is_behind_a_new_entry_is_due_for_nothing_before_it_was_there(self, stage, hosts):
        behind, right = hosts(-SKEW, 0)
        pass_time(SILENCE)
        assert ticks(stage) == 0
        end(behind)
        until_leads(stage, "second")
        until_more_ticks(stage, 10)
        end(right)
        stage.until_empty()

        standing = stage.broker.standings()["tick"]
        assert ticks(stage) <= round(standing.last / EVERY) - int(standing.since // EVERY)


# A clock that jumps ------------------------------------------------------------------------------------------------


@on_two_stores
def test_a_clock_that_jumps_by_an_hour_forth_and_back_under_the_leader_doubles_nothing(stage, clock):
    stage.worker("--id", "runner")
    host = clock("host")
    entry = OFTEN["tick"] | {"misfire": "latest"}
    worker = scheduler(stage, "--id", "jumper", schedule={"tick": entry}, **host.environment)
    until_more_ticks(stage, 5)
    before, began = ticks(stage), time.monotonic()
    host.set(HOUR)
    worker.until_it_says("The clock has been set by +3600 s")
    until_more_ticks(stage, before + 10)
    assert last(stage) > time.time() + HOUR / 2, "VACUOUS: slots are where they were"
    assert ticks(stage) - before <= (time.monotonic() - began) / EVERY + 2

    host.set(0)
    worker.until_it_says("The clock has been set by -3600 s")
    stage.until_empty()
    ran, slot = ticks(stage), last(stage)
    pass_time(SILENCE)
    assert (ticks(stage), last(stage)) == (ran, slot)
    assert leader(stage) == "jumper"
    host.set(HOUR)
    until_more_ticks(stage, ran + 10)
    end(worker)
    stage.until_empty()

    # Since the last slot before the jump back, each slot has run at most once, and those of the silence do not.
    assert ticks(stage) - ran <= round((last(stage) - slot) / EVERY)
    assert len(stage.broker.nodes()) == 1, "the lease of the other has been nobody's business"
    for each in stage.workers:
        assert "had run out" not in each.log
        assert "Took back" not in each.log
    assert stage.failed() == {}


# Down over some slots ----------------------------------------------------------------------------------------------


@on_two_stores
class TestMisfire:
    @pytest.fixture
    def lead_at(self, stage, clock):
        """Give a function that lets a scheduler lead for a moment in which it is so late; it was down before that."""
        stage.worker("--id", "runner")
        host = clock("host")
        # About an hour, of which none begins during the test, whatever the time of the day.
        hour = next(about for about in count(HOUR) if about - time.time() % about > SKEW)
        first = (time.time() // hour + 1) * hour
        entries = {policy: {"task": NOTE, "schedule": hour, "args": [policy], "misfire": policy} for policy in POLICIES}

        def lead_at(hours, seconds):
            """Lead so many hours and seconds after the first slot; return how often each entry has run."""
            host.set(first + hours * hour + seconds - time.time())
            worker = scheduler(stage, schedule=entries, VTASKS_LEASE="15", **host.environment)
            worker.until_it_says("leads the schedule of 3 entries")
            end(worker)  # when the turn has ended in which it has begun to lead
            stage.until_empty()
            self.dropped = "".join(worker.log_lines("WARNING", "Slots were missed"))
            counts = stage.ledger.counts()
            return {policy: counts[policy] for policy in POLICIES}

        return lead_at

    def test_each_policy_does_what_it_says(self, lead_at):
        assert lead_at(-1, 600) == {"latest": 0, "skip": 0, "all": 0}, "a new entry is due for nothing"
        assert lead_at(4, 600) == {"latest": 1, "skip": 0, "all": 5}
        assert "latest (4), skip (5)" in self.dropped
        assert lead_at(4, 900) == {"latest": 1, "skip": 0, "all": 5}, "nothing was missed"
        assert "latest" not in self.dropped
        assert lead_at(5, 600) == {"latest": 2, "skip": 0, "all": 6}
        assert "latest" not in self.dropped

    def test_a_slot_that_is_less_than_a_lease_ago_is_late_and_not_missed(self, lead_at):
        lead_at(-1, 600)

        assert lead_at(2, 1) == {"latest": 1, "skip": 1, "all": 3}
        assert "latest (2), skip (2)" in self.dropped

    def test_all_are_the_latest_hundred(self, lead_at):
        lead_at(-1, 600)

        assert lead_at(149, 600) == {"latest": 1, "skip": 0, "all": 100}
        assert "latest (149), skip (150), all (50)" in self.dropped
