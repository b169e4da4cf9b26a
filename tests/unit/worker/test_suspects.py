"""Suspects run one at a time, each alone long enough to be found out."""

import asyncio
import contextlib
import time
from functools import partial

import pytest

from django_vtasks.brokers.base import Ack, Claim, Death, Depth, Owner
from django_vtasks.worker import outage
from django_vtasks.worker import suspects as suspects_module
from django_vtasks.worker.slots import Slots
from django_vtasks.worker.suspects import SuspectFetcher
from tests.contract.given import a_task
from tests.unit.worker.doubles import OWNER, a_broker, soon, turns

LONG = 60.0
SHORT = 0.05


class Actor:
    """A fetcher of suspects whose tasks start and end when the test says so."""

    def __init__(self, broker, limit):
        self.slots = Slots(limit)
        self.started: list[Claim] = []
        self.returned: list[Claim] = []
        self.fetcher = SuspectFetcher(broker, OWNER, "mail", self.slots, tuple, self.started.append, self._give_back)
        self._running = asyncio.create_task(self.fetcher.run())

    @property
    def names(self):
        return [claim.envelope.args[0] for claim in self.started]

    def has_started(self, count):
        return len(self.started) == count

    async def stop(self):
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running

    def end(self, name):
        claim = next(claim for claim in self.fetcher.running if claim.envelope.args == [name])
        self.slots.free(0.1)
        self.fetcher.ended(claim)

    def _give_back(self, claims):
        self.returned.extend(claims)
        for _ in claims:
            self.slots.free()


@pytest.fixture
def broker():
    return a_broker()


@pytest.fixture
def alone(monkeypatch):
    """Give a function that sets for how many seconds a suspect is alone."""
    return lambda seconds: monkeypatch.setattr(suspects_module, "ALONE", seconds)


@pytest.fixture
async def actor(broker, alone, monkeypatch):
    monkeypatch.setattr(outage, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(suspects_module, "EMPTY_PAUSE", 0.001)
    alone(LONG)
    made = []

    def make(limit=4):
        made.append(Actor(broker, limit))
        return made[-1]

    yield make
    for each in made:
        await each.stop()


async def suspect(broker, *names, crashes=1, max_rescues=2):
    """Let actors die on tasks of these names, one after the other, so often."""
    broker.push([a_task(name, max_rescues=max_rescues) for name in names])
    for crash in range(crashes):
        for number, _ in enumerate(names):
            victim = Owner(OWNER.node, f"victim#{number}", crash + 1)
            assert await broker.claim(victim, "mail", 1, suspects=crash > 0)
        for number, _ in enumerate(names):
            broker.reclaim(Owner(OWNER.node, f"victim#{number}", crash + 1), Death("died"))
    assert broker.suspects() == {"mail": len(names)}


async def test_tasks_that_have_not_crashed_are_left_to_the_others(broker, actor):
    broker.push([a_task("innocent")])
    running = actor()
    await soon(lambda: running.fetcher.empty_claims >= 3)

    assert running.started == []
    assert broker.depth("mail") == Depth(waiting=1, delayed=0, running=0)


async def test_one_is_claimed_at_a_time_and_the_next_when_it_has_ended(broker, actor):
    await suspect(broker, "a", "b", "c")
    running = actor()
    for number, name in enumerate("abc", 1):
        await soon(partial(running.has_started, number))
        await turns(50)
        assert running.names == list("abc"[:number])
        assert broker.depth("mail").running == 1
        running.end(name)
        await broker.settle(OWNER, [Ack(running.started[-1])])

    await soon(lambda: running.fetcher.empty_claims)
    assert broker.claims == [1] * len(broker.claims)
    assert running.fetcher.taken == 3


async def test_one_whose_claim_got_no_answer_is_started_although_another_runs_for_long(broker, actor, alone):
    alone(SHORT)
    await suspect(broker, "a", "b")
    broker.lost["claim"] = OSError("closed")
    running = actor()
    await soon(lambda: len(running.started) == 2)

    assert broker.depth("mail") == Depth(waiting=0, delayed=0, running=2)


async def test_after_its_first_moment_another_may_run_beside_it(broker, actor, alone):
    alone(SHORT)
    await suspect(broker, "a", "b")
    running = actor()
    await soon(lambda: running.started)
    began = time.monotonic()
    await soon(lambda: len(running.started) == 2)

    assert time.monotonic() - began >= SHORT / 2
    assert len(running.fetcher.running) == 2


async def test_each_that_joins_has_a_moment_in_which_nobody_else_begins(broker, actor, alone):
    alone(SHORT)
    await suspect(broker, "a")
    running = actor()
    await soon(lambda: running.fetcher.running and not running.fetcher.empty_claims)
    await soon(lambda: running.fetcher.empty_claims)
    alone(LONG)
    await suspect(broker, "b", "c")
    await soon(lambda: running.names == ["a", "b"])
    await turns(100)

    assert running.names == ["a", "b"]


async def test_the_end_of_an_older_one_does_not_end_the_second_of_the_younger_one(broker, actor, alone):
    alone(SHORT)
    await suspect(broker, "a")
    running = actor()
    await soon(lambda: running.fetcher.empty_claims and running.fetcher.running)
    alone(LONG)
    await suspect(broker, "b", "c")
    await soon(lambda: running.names == ["a", "b"])
    running.end("a")
    await asyncio.wait_for(turns(100), 5)  # the loop goes on

    assert running.names == ["a", "b"]
    running.end("b")
    await soon(lambda: running.names == ["a", "b", "c"])


async def test_no_more_run_at_a_time_than_its_concurrency(broker, actor, alone):
    alone(0.001)
    await suspect(broker, *"abcde")
    running = actor(limit=2)
    await soon(lambda: len(running.started) == 2)
    claims = len(broker.claims)
    await asyncio.wait_for(turns(200), 5)
    assert (running.names, len(broker.claims)) == (["a", "b"], claims)
    running.end("a")

    await soon(lambda: running.names == ["a", "b", "c"])


@pytest.mark.parametrize(("crashes", "max_rescues"), [(2, 2), (1, 1)])
class TestTheLastChance:
    async def test_it_waits_until_nobody_else_runs(self, broker, actor, alone, crashes, max_rescues):
        alone(SHORT)
        await suspect(broker, "other", max_rescues=9)
        running = actor()
        await soon(lambda: running.fetcher.empty_claims and running.fetcher.running)
        await suspect(broker, "last", crashes=crashes, max_rescues=max_rescues)
        await soon(lambda: running.slots.held == 2)
        await turns(50)
        assert running.names == ["other"]
        running.end("other")

        await soon(lambda: running.names == ["other", "last"])

    async def test_it_is_alone_throughout(self, broker, actor, alone, crashes, max_rescues):
        alone(0.001)
        await suspect(broker, "last", crashes=crashes, max_rescues=max_rescues)
        running = actor()
        await soon(lambda: running.started)
        await suspect(broker, "other", max_rescues=9)
        claims = len(broker.claims)
        deadline = time.monotonic() + SHORT
        await soon(lambda: time.monotonic() > deadline)
        assert (running.names, len(broker.claims)) == (["last"], claims)
        running.end("last")

        await soon(lambda: running.names == ["last", "other"])

    async def test_while_it_waits_it_can_be_given_back(self, broker, actor, alone, crashes, max_rescues):
        alone(SHORT)
        await suspect(broker, "other", max_rescues=9)
        running = actor()
        await soon(lambda: running.fetcher.empty_claims and running.fetcher.running)
        await suspect(broker, "last", crashes=crashes, max_rescues=max_rescues)
        await soon(lambda: running.slots.held == 2)
        await running.stop()
        running.fetcher.give_up()

        assert [claim.envelope.args for claim in running.returned] == [["last"]]
        assert running.slots.held == 1
        running.fetcher.give_up()
        assert len(running.returned) == 1


async def test_what_runs_is_not_given_back_with_what_waits(broker, actor):
    await suspect(broker, "a")
    running = actor()
    await soon(lambda: running.started)
    await running.stop()
    running.fetcher.give_up()

    assert running.returned == []
    assert [claim.envelope.args for claim in running.fetcher.running] == [["a"]]


async def test_errors_of_the_store_are_waited_out(broker, actor, caplog):
    await suspect(broker, "a")
    broker.trouble["claim"] = OSError("closed")
    running = actor()
    await soon(lambda: len(broker.claims) >= 3)
    assert running.started == []
    broker.trouble.clear()
    await soon(lambda: running.started)

    assert "Cannot claim suspect tasks of queue mail" in caplog.text
    assert len([record for record in caplog.records if record.exc_info]) == 1


async def test_empty_claims_are_counted_in_a_row(broker, actor):
    running = actor()
    await soon(lambda: running.fetcher.empty_claims >= 3)
    await suspect(broker, "a")
    await soon(lambda: running.started)

    assert running.fetcher.empty_claims == 0


class TestBesideOneThatRunsForLong:
    @pytest.fixture
    async def running(self, broker, actor, alone):
        alone(0.001)
        await suspect(broker, "long")
        made = actor()
        await soon(lambda: made.started)
        return made

    async def test_the_store_is_not_asked_over_and_over_for_others(self, broker, running):
        before = len(broker.claims)
        deadline = time.monotonic() + 0.5
        await soon(lambda: time.monotonic() > deadline)

        assert len(broker.claims) - before <= 10  # 1 + 2 + 4 + … + 256 ms

    async def test_its_end_ends_the_pause(self, broker, actor, alone, monkeypatch):
        alone(0.001)
        monkeypatch.setattr(suspects_module, "EMPTY_PAUSE", LONG)
        monkeypatch.setattr(suspects_module, "LONGEST_PAUSE", LONG)
        await suspect(broker, "long")
        running = actor()
        await soon(lambda: running.fetcher.running and running.fetcher.empty_claims)
        await suspect(broker, "next")
        running.end("long")

        await soon(lambda: running.names == ["long", "next"])

    async def test_that_there_are_no_others_is_found_anew_and_quickly_when_it_has_ended(self, running):
        await soon(lambda: running.fetcher.empty_claims >= 5)
        running.end("long")
        assert running.fetcher.empty_claims == 0

        await soon(lambda: running.fetcher.empty_claims >= 2, within=0.5)
