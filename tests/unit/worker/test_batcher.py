"""A batch at a time: what starts one, what waits behind it, and what goes back."""

import asyncio
import contextlib
import time
from functools import partial

import pytest
import uvloop

from django_vtasks.brokers.base import Claim, Depth, Release
from django_vtasks.errors import LeaseLost
from django_vtasks.worker import batcher as batcher_module
from django_vtasks.worker import fetcher as fetcher_module
from django_vtasks.worker import outage
from django_vtasks.worker.batcher import Batcher
from django_vtasks.worker.slots import Slots
from tests.contract.given import a_task, tasks
from tests.unit.worker.doubles import OWNER, a_broker, soon, turns

LATE = 60.0
"""A time-out that no test waits for."""
PATIENCE = 0.1


class Actor:
    """A batcher whose members end when the test says so."""

    def __init__(self, broker, count=3, timeout=LATE, **options):
        self.broker = broker
        self.slots = Slots(count)
        self.batches: list[list[Claim]] = []
        self.unsettled: list[Claim] = []
        self.returned: list[Claim] = []
        self.batcher = Batcher(
            broker, OWNER, "mail", self.slots, timeout, lambda: self.unsettled, self.batches.append, self._give_back,
            **options,
        )  # fmt: skip
        self._running = asyncio.create_task(self.batcher.run())

    @property
    def sizes(self):
        return [len(members) for members in self.batches]

    async def stop(self):
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running

    def end(self, *members, seconds=10.0):
        for claim in members:
            self.slots.free(seconds)
            self.batcher.ended(claim)

    def is_used_to_short_batches(self):
        for _ in range(60):
            self.slots.take(1)
            self.slots.free(0.001)

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
    monkeypatch.setattr(fetcher_module, "EMPTY_PAUSE", 0.001)
    monkeypatch.setattr(batcher_module, "EMPTY_PAUSE", 0.001)
    monkeypatch.setattr(batcher_module, "PATIENCE", PATIENCE)
    made = []

    def make(**options):
        made.append(Actor(broker, **options))
        return made[-1]

    yield make
    for each in made:
        each.batcher.give_up()
        await each.stop()


def args_of(claims):
    return [claim.envelope.args[0] for claim in claims]


def push(broker, *numbers):
    broker.push([a_task(number) for number in numbers])


async def held(broker, count):
    """Wait until so many members are claimed."""
    await soon(lambda: broker.depth("mail").running == count)
    await turns()


class TestStart:
    async def test_a_full_batch_starts_at_once_with_its_members_in_order(self, broker, actor):
        push(broker, 1, 2, 3)
        running = actor()
        await soon(lambda: running.batches)

        assert args_of(running.batches[0]) == [1, 2, 3]
        assert broker.claims[0] == 3

    async def test_members_that_come_one_by_one_fill_it(self, broker, actor):
        running = actor()
        for number in (1, 2, 3):
            assert running.batches == []
            push(broker, number)
            await held(broker, number)

        assert [args_of(members) for members in running.batches] == [[1, 2, 3]]

    async def test_it_asks_for_no_more_than_the_batch_lacks(self, broker, actor):
        push(broker, 1)
        actor(count=5)
        await held(broker, 1)
        await soon(lambda: broker.claims == [5, 4])

    async def test_the_time_counts_from_the_first_member(self, broker, actor):
        running = actor(timeout=0.3)
        push(broker, 1)
        await held(broker, 1)
        began = time.monotonic()
        await soon(lambda: time.monotonic() > began + 0.2)
        push(broker, 2)
        await held(broker, 2)
        await soon(lambda: running.batches)

        assert time.monotonic() - began < 0.45
        assert running.sizes == [2]

    async def test_each_batch_has_a_time_of_its_own(self, broker, actor):
        running = actor(timeout=0.2)
        push(broker, 1)
        await soon(lambda: running.batches)
        running.end(*running.batches[0])
        push(broker, 2)
        await held(broker, 2)
        assert running.sizes == [1]

        await soon(lambda: len(running.batches) == 2, within=2)

    async def test_nothing_starts_without_members(self, broker, actor):
        running = actor(timeout=0.01)
        await soon(lambda: broker.claims)
        running.batcher.finish()
        await turns(100)

        assert running.batches == []

    async def test_waiting_costs_no_claims(self, broker, actor):
        push(broker, 1)
        actor()
        await held(broker, 1)
        asked = len(broker.claims)
        await turns(200)

        assert len(broker.claims) == asked


def test_a_time_that_is_no_whole_number_of_milliseconds_does_not_pass_unnoticed():
    """A timer of uvloop rings up to half a millisecond early, by the loop's own clock; each of these does at times."""

    async def batches():
        broker = a_broker()
        for timeout in (0.0014, 0.0104, 0.0154, 0.0021) * 5:
            actor = Actor(broker, timeout=timeout)
            push(broker, 1)
            await soon(partial(bool, actor.batches), within=2)
            await actor.stop()
            await broker.settle(OWNER, [Release(claim) for claim in actor.batches[0]])
            broker.clear("mail")

    uvloop.run(batches())


class TestBesideARunningBatch:
    async def test_the_next_claim_is_on_its_way_when_a_batch_begins(self, broker, actor):
        running = actor()
        running.is_used_to_short_batches()
        sent = []
        running.batcher._start = lambda _members: sent.append(len(broker.claims))
        push(broker, 1, 2, 3)
        await soon(lambda: sent)

        assert sent == [2]

    @pytest.fixture
    async def busy(self, broker, actor):
        """An actor that collects beside the batch 1, 2, 3, because batches used to be short."""
        push(broker, 1, 2, 3)
        running = actor()
        running.is_used_to_short_batches()
        await soon(lambda: running.batches)
        return running

    async def test_no_other_starts_until_its_last_member_has_ended(self, broker, busy):
        push(broker, 4, 5, 6, 7)
        await held(broker, 6)
        first, second, third = busy.batches[0]
        busy.end(first, third, seconds=0.001)
        await turns()
        assert busy.sizes == [3]
        assert busy.batcher.running == [second]
        busy.end(second, seconds=0.001)
        await held(broker, 7)

        assert [args_of(members) for members in busy.batches] == [[1, 2, 3], [4, 5, 6]]

    async def test_the_next_waits_for_its_own_time_all_the_same(self, broker, busy):
        push(broker, 4)
        await held(broker, 4)
        busy.end(*busy.batches[0])
        await turns()
        assert busy.sizes == [3]
        push(broker, 5, 6)

        await soon(lambda: busy.sizes == [3, 3])

    async def test_what_waits_behind_one_that_is_long_goes_back(self, broker, busy):
        push(broker, 4, 5, 6)
        await held(broker, 6)
        asked = len(broker.claims)
        await soon(lambda: busy.returned, within=3)

        assert args_of(busy.returned) == [4, 5, 6]
        assert busy.slots.held == 3
        await turns(100)
        assert len(broker.claims) == asked, "and is not claimed again"

    async def test_what_is_not_due_yet_may_wait(self, broker, busy):
        push(broker, 4)
        await held(broker, 4)
        began = time.monotonic()
        await soon(lambda: time.monotonic() > began + 2 * PATIENCE)

        assert busy.returned == []

    async def test_its_end_in_time_keeps_the_next(self, broker, busy):
        push(broker, 4, 5, 6)
        await held(broker, 6)
        busy.end(*busy.batches[0], seconds=0.001)
        began = time.monotonic()
        await soon(lambda: time.monotonic() > began + 2 * PATIENCE)

        assert busy.returned == []
        assert busy.sizes == [3, 3]

    async def test_where_batches_are_long_nothing_is_claimed(self, broker, actor):
        push(broker, 1, 2, 3, 4)
        running = actor()
        await soon(lambda: running.batches)
        await turns(100)

        assert broker.depth("mail") == Depth(waiting=1, delayed=0, running=3)
        assert broker.claims == [3]

    async def test_what_a_claim_brings_that_was_under_way_when_it_started_is_collected(self, broker, actor):
        running = actor(timeout=0.05)
        push(broker, 1)
        await soon(lambda: running.batches)
        push(broker, 2)
        await held(broker, 2)
        assert running.sizes == [1]
        running.end(*running.batches[0])

        await soon(lambda: running.sizes == [1, 1])


class TestEnd:
    async def test_a_partial_batch_starts_at_once(self, broker, actor):
        running = actor()
        push(broker, 1, 2)
        await held(broker, 2)
        await running.stop()
        running.batcher.finish()
        await turns()

        assert running.sizes == [2]

    @pytest.mark.parametrize("numbers", [[4], [4, 5, 6]], ids=["not due", "about to be given back"])
    async def test_what_waits_behind_a_long_one_goes_on_waiting_and_is_not_thrown_back(self, broker, actor, numbers):
        push(broker, 1, 2, 3)
        running = actor()
        running.is_used_to_short_batches()
        await soon(lambda: running.batches)
        push(broker, *numbers)
        await held(broker, 3 + len(numbers))
        await running.stop()
        running.batcher.finish()
        began = time.monotonic()
        await soon(lambda: time.monotonic() > began + 3 * PATIENCE)
        assert running.returned == []
        running.end(*running.batches[0])
        await turns()

        assert [args_of(members) for members in running.batches] == [[1, 2, 3], numbers]

    async def test_giving_up_returns_the_members_that_have_not_started_once(self, broker, actor):
        running = actor()
        push(broker, 1, 2)
        await held(broker, 2)
        await running.stop()
        running.batcher.give_up()
        running.batcher.give_up()

        assert args_of(running.returned) == [1, 2]
        assert running.slots.held == 0

    async def test_what_is_claimed_again_after_giving_up_has_its_full_time(self, broker, actor):
        running = actor(timeout=0.3)
        push(broker, 1)
        await held(broker, 1)
        began = time.monotonic()
        await soon(lambda: time.monotonic() > began + 0.2)
        running.batcher.give_up()
        again = time.monotonic()
        await broker.settle(OWNER, [Release(claim) for claim in running.returned])
        await held(broker, 1)
        await soon(lambda: running.batches)

        assert time.monotonic() - again >= 0.29

    async def test_giving_up_leaves_what_runs(self, broker, actor):
        push(broker, 1, 2, 3)
        running = actor()
        await soon(lambda: running.batches)
        running.batcher.give_up()

        assert running.returned == []
        assert running.batcher.running == running.batches[0]


class TestTrouble:
    async def test_a_partial_batch_starts_in_time_while_the_store_is_away(self, broker, actor):
        running = actor(timeout=0.2)
        push(broker, 1)
        await held(broker, 1)
        broker.trouble["claim"] = OSError("closed")
        push(broker, 2)  # wakes the claim that waits
        await soon(lambda: running.batches)

        assert running.sizes[0] >= 1

    async def test_it_claims_again_when_the_trouble_is_over(self, broker, actor, caplog):
        broker.trouble["claim"] = OSError("closed")
        running = actor()
        push(broker, 1, 2, 3)
        await soon(lambda: len(broker.claims) >= 3)
        assert running.batches == []
        broker.trouble.clear()

        await soon(lambda: running.sizes == [3])
        assert caplog.records[0].getMessage() == "Cannot claim tasks of queue mail; trying again until it works"

    async def test_members_booked_by_an_answer_that_was_lost_are_given_back_and_run(self, broker, actor):
        push(broker, 1, 2, 3)
        broker.lost["claim"] = OSError("closed after the commit")
        running = actor()

        await soon(lambda: running.sizes == [3])
        assert {claim.envelope.attempt for claim in running.batches[0]} == {1}

    async def test_what_is_collected_runs_or_is_unsettled_stays_booked(self, broker, actor):
        push(broker, 1, 2, 3)
        running = actor()
        running.is_used_to_short_batches()
        await soon(lambda: running.batches)
        push(broker, 4)
        await held(broker, 4)
        ended = running.batches[0][0]
        running.unsettled.append(ended)
        running.end(ended, seconds=0.001)
        broker.lost["claim"] = OSError("closed after the commit")
        looks = len(broker.kept)
        push(broker, 5)
        await soon(lambda: len(broker.kept) > looks)

        assert broker.kept[-1] >= {claim.receipt for claim in running.batches[0]}
        await held(broker, 5)
        assert len(broker.kept[-1]) == 4, "the fifth alone is given back, and claimed again"


class TestBurst:
    async def test_what_there_is_starts_without_waiting_for_more(self, broker, actor):
        push(broker, 1, 2)
        running = actor(wait=0.0)
        await soon(lambda: running.batches, within=3)

        assert running.sizes == [2]

    async def test_empty_claims_are_counted_until_one_brings_something(self, broker, actor):
        running = actor(wait=0.0)
        await soon(lambda: running.batcher.empty_claims >= 3)
        broker.push(tasks(3))
        await soon(lambda: running.batches)

        assert running.batcher.empty_claims == 0
        assert running.batcher.taken == 3


async def test_a_cancelled_claim_leaves_nothing_booked(broker, actor):
    running = actor()
    await soon(lambda: broker.claims)
    await running.stop()
    push(broker, 1)
    await turns()

    assert broker.depth("mail") == Depth(waiting=1, delayed=0, running=0)


async def test_members_that_another_node_has_been_given_do_not_run(broker, actor):
    running = actor(timeout=0.5)
    push(broker, 1)
    await held(broker, 1)
    broker.trouble["claim"] = LeaseLost("too late")
    push(broker, 2)

    await soon(lambda: args_of(running.returned) == [1, 2])
    assert running.batches == []
