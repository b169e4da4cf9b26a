"""Slots first, then claims; nothing is hoarded, and nothing that got lost on the way stays booked."""

import asyncio
import contextlib

import pytest

from django_vtasks.brokers.base import Claim, Depth, Release
from django_vtasks.worker import fetcher as fetcher_module
from django_vtasks.worker import outage, reconcile
from django_vtasks.worker.fetcher import Fetcher
from django_vtasks.worker.slots import Slots
from tests.contract.given import a_task, tasks
from tests.unit.worker.doubles import OWNER, a_broker, soon, turns


class Actor:
    """A fetcher whose tasks start and end when the test says so."""

    def __init__(self, broker, limit, **options):
        self.broker = broker
        self.slots = Slots(limit)
        self.started: list[Claim] = []
        self.unsettled: list[Claim] = []
        self.returned: list[Claim] = []
        self.fetcher = Fetcher(
            broker, OWNER, "mail", self.slots, lambda: self.unsettled, self.started.append, self._give_back, **options
        )
        self._running = asyncio.create_task(self.fetcher.run())

    async def stop(self):
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running

    def end(self, claim, seconds=10.0):
        self.slots.free(seconds)
        self.fetcher.ended(claim)

    def _give_back(self, claims):
        self.returned.extend(claims)
        for _ in claims:
            self.slots.free()


@pytest.fixture
def broker():
    return a_broker()


@pytest.fixture
async def actor(broker, monkeypatch):
    monkeypatch.setattr(outage, "FIRST_DELAY", 0.001)
    made = []

    def make(limit=2, **options):
        made.append(Actor(broker, limit, **options))
        return made[-1]

    yield make
    for each in made:
        await each.stop()


async def test_it_claims_what_there_is_room_for_and_starts_it_in_order(broker, actor):
    pushed = tasks(5)
    broker.push(pushed)
    running = actor(limit=3)
    await soon(lambda: len(running.started) == 3)
    await turns()

    assert broker.claims[0] == running.slots.limit
    assert [claim.envelope.id for claim in running.started] == [envelope.id for envelope in pushed[:3]]
    assert broker.depth("mail") == Depth(waiting=2, delayed=0, running=3)


async def test_a_slot_that_becomes_free_is_filled(broker, actor):
    broker.push(tasks(3))
    running = actor(limit=2)
    await soon(lambda: len(running.started) == 2)
    running.end(running.started[0])

    await soon(lambda: len(running.started) == 3)
    assert running.fetcher.running == running.started[1:]


async def test_an_idle_one_takes_what_comes(broker, actor):
    running = actor()
    await soon(lambda: broker.claims)
    broker.push(tasks(1))

    await soon(lambda: running.started)


async def test_without_room_it_asks_for_nothing(broker, actor):
    broker.push(tasks(10))
    running = actor(limit=2)
    await soon(lambda: len(running.started) == 2)
    asked = len(broker.claims)
    await turns(100)

    assert len(broker.claims) == asked


class TestClaimedAhead:
    @pytest.fixture
    async def ahead(self, broker, actor, monkeypatch):
        """An actor used to short tasks: two run, two are at hand."""
        monkeypatch.setattr(fetcher_module, "PATIENCE", 0.1)
        running = actor(limit=2)
        for _ in range(60):
            running.slots.take(1)
            running.slots.free(0.001)
        broker.push([a_task(number) for number in range(6)])
        await soon(lambda: broker.depth("mail").running == 4)
        await turns()
        assert len(running.started) == 2
        return running

    async def test_no_more_start_than_may_run(self, ahead):
        ahead.end(ahead.started[0], 0.001)
        await soon(lambda: len(ahead.started) == 3)

        assert len(ahead.fetcher.running) == 2

    async def test_they_are_given_back_when_what_runs_turns_out_to_be_long(self, ahead):
        await soon(lambda: ahead.returned, within=3)

        assert [claim.envelope.args for claim in ahead.returned] == [[2], [3]]
        assert ahead.slots.held == 2

    async def test_the_one_behind_is_given_back_although_another_was_started_meanwhile(self, ahead):
        """What waits is looked at again, even if nothing ends any more."""
        ahead.end(ahead.started[0], 10.0)
        await soon(lambda: len(ahead.started) == 3)

        await soon(lambda: ahead.returned, within=3)
        assert [3] in [claim.envelope.args for claim in ahead.returned]

    async def test_giving_up_returns_what_has_not_started(self, ahead):
        await ahead.stop()
        ahead.fetcher.give_up()

        assert [claim.envelope.args for claim in ahead.returned] == [[2], [3]]
        assert len(ahead.fetcher.running) == 2
        ahead.fetcher.give_up()
        assert len(ahead.returned) == 2


class TestTrouble:
    async def test_it_claims_again_when_the_trouble_is_over(self, broker, actor, caplog):
        broker.trouble["claim"] = OSError("closed")
        broker.push(tasks(1))
        running = actor()
        await soon(lambda: len(broker.claims) >= 3)
        assert running.started == []
        del broker.trouble["claim"]

        await soon(lambda: running.started)
        assert caplog.records[0].getMessage() == "Cannot claim tasks of queue mail; trying again until it works"
        assert running.slots.held == 1

    async def test_tasks_booked_by_an_answer_that_was_lost_are_given_back_and_run(self, broker, actor):
        pushed = tasks(2)
        broker.push(pushed)
        broker.lost["claim"] = OSError("closed after the commit")
        running = actor()

        await soon(lambda: len(running.started) == 2)
        assert [claim.envelope.id for claim in running.started] == [envelope.id for envelope in pushed]
        assert {claim.envelope.attempt for claim in running.started} == {1}

    async def test_what_runs_waits_or_is_unsettled_stays_booked(self, broker, actor):
        broker.push(tasks(3))
        running = actor(limit=2)
        await soon(lambda: len(running.started) == 2)
        ended = running.started[0]
        running.unsettled.append(ended)
        broker.trouble["claim"] = OSError("closed")
        running.end(ended)
        await soon(lambda: broker.kept[1:])

        assert broker.kept[-1] >= {claim.receipt for claim in running.started}
        del broker.trouble["claim"]
        await soon(lambda: len(running.started) == 3)
        assert await broker.settle(OWNER, [Release(claim) for claim in running.started]) == [True] * 3

    async def test_the_first_thing_a_new_actor_does_is_to_look_what_is_booked_on_it(self, broker, actor):
        broker.push(tasks(1))
        await broker.claim(OWNER, "mail", 1)
        running = actor()

        await soon(lambda: running.started)
        assert broker.kept[0] == set()

    async def test_it_looks_again_from_time_to_time(self, broker, actor, monkeypatch):
        monkeypatch.setattr(reconcile, "EVERY", 0.01)
        actor(wait=0.0)

        await soon(lambda: len(broker.kept) >= 3)

    async def test_a_look_that_fails_is_repeated_before_the_next_claim(self, broker, actor):
        broker.trouble["keep_only"] = OSError("closed")
        broker.push(tasks(1))
        running = actor()
        await soon(lambda: len(broker.kept) >= 3)
        assert broker.claims == []
        del broker.trouble["keep_only"]

        await soon(lambda: running.started)


class TestBurst:
    async def test_empty_claims_are_counted_until_one_brings_something(self, broker, actor, monkeypatch):
        monkeypatch.setattr(fetcher_module, "EMPTY_PAUSE", 0.001)
        running = actor(wait=0.0)
        await soon(lambda: running.fetcher.empty_claims >= 3)
        broker.push(tasks(2))
        await soon(lambda: len(running.started) == 2)

        # Both slots are taken: nobody looks any more.
        assert running.fetcher.empty_claims == 0

    async def test_trouble_is_not_emptiness(self, broker, actor):
        broker.trouble["claim"] = OSError("closed")
        running = actor(wait=0.0)
        await soon(lambda: len(broker.claims) >= 3)

        assert running.fetcher.empty_claims == 0


async def test_a_cancelled_claim_leaves_nothing_booked(broker, actor):
    running = actor()
    await soon(lambda: broker.claims)
    await running.stop()
    broker.push(tasks(1))
    await turns()

    assert broker.depth("mail") == Depth(waiting=1, delayed=0, running=0)
