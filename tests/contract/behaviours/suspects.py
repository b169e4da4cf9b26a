"""Tasks that were handed back after a crash: they wait apart, for claims of their own."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace as replaced
from itertools import chain

import pytest

from django_vtasks.brokers.base import Claim, Depth, Owner, Release, Retry
from django_vtasks.errors import LeaseLost
from tests.contract.backdoor import Store
from tests.contract.given import ALICE, BOB, a_task, in_an_hour, mutex, tasks, throttle
from tests.contract.steps import AT_ONCE, SOON, crash, drain, idle_claim, ids, ids_of, suspect, take, take_one
from tests.contract.threads import aside, at_once

UNHARMED: dict[str, Callable[[Store, Claim], Awaitable[object]]] = {
    "release": lambda broker, claim: broker.settle(claim.owner, [Release(claim)]),
    "keep only": lambda broker, claim: broker.keep_only(claim.owner, []),
    "leave": lambda broker, claim: aside(broker.leave, claim.owner.node),
    "reclaim": lambda broker, claim: crash(broker, claim.owner, running=[]),
}


class Suspects:
    async def test_ordinary_claims_do_not_see_suspects(self, broker):
        await suspect(broker, tasks(2))
        [plain] = sent = tasks(1)
        await broker.apush(sent)

        assert ids(await take(broker)) == [plain.id]
        assert await take(broker) == []

    async def test_claims_of_suspects_see_nothing_else(self, broker, backdoor):
        delayed, due = tasks(2, run_after=in_an_hour())
        charged = a_task()
        await broker.apush([a_task(priority=1), delayed, due])
        await aside(backdoor.make_due, due.id)
        await suspect(broker, [charged])

        assert ids(await take(broker, suspects=True)) == [charged.id]
        assert await aside(broker.depth, "mail") == Depth(waiting=2, delayed=1, running=1)

    async def test_a_claim_of_suspects_takes_those_of_its_queue_up_to_its_limit(self, broker):
        sent = tasks(3)
        await suspect(broker, sent)
        await suspect(broker, tasks(2, queue="images"))

        assert ids(await take(broker, 2, suspects=True)) == ids_of(sent[:2])
        assert ids(await take(broker, 2, suspects=True)) == ids_of(sent[2:])
        assert await take(broker, suspects=True) == []

    @staticmethod
    def suspects_in_order(*crashed):
        """Return suspects, pushed and crashed one group after the other, in the order of their claim."""
        return sorted(chain(*crashed), key=lambda task: -task.priority)

    async def test_suspects_come_in_order(self, broker):
        sent = [a_task(priority=priority) for priority in (0, -1, 1, 0, 1)]
        await suspect(broker, sent[2:])
        await suspect(broker, sent[:2])

        assert ids(await take(broker, suspects=True)) == ids_of(self.suspects_in_order(sent[2:], sent[:2]))

    async def test_a_suspect_is_nobody_elses(self, broker, second_broker):
        await suspect(broker, tasks(1))
        await take_one(broker, suspects=True)

        assert await take(second_broker, owner=BOB, suspects=True) == []

    def test_claimers_in_threads_never_claim_the_same_suspect(self, broker, backdoor):
        sent = tasks(60)
        asyncio.run(suspect(broker, sent))

        def consume(slot):
            return asyncio.run(drain(backdoor.open(), replaced(ALICE, slot=f"mail#{slot}"), suspects=True))

        assert sorted(sum(at_once(consume, 4), [])) == sorted(ids_of(sent))

    async def test_without_a_lease_no_suspect_can_be_claimed(self, broker):
        await suspect(broker, tasks(1))

        with pytest.raises(LeaseLost):
            await take(broker, owner=Owner("nowhere", "mail#1"), suspects=True)

        assert await aside(broker.suspects) == {"mail": 1}

    @pytest.mark.parametrize("hand_back", UNHARMED.values(), ids=UNHARMED)
    async def test_a_suspect_that_is_handed_back_stays_one(self, broker, hand_back):
        innocent, charged = tasks(2)
        await suspect(broker, [charged])
        await broker.apush([innocent])
        for claim in [*await take(broker, owner=BOB, suspects=True), *await take(broker, owner=BOB)]:
            await hand_back(broker, claim)

        assert ids(await take(broker)) == [innocent.id]
        [again] = await take(broker, suspects=True)
        assert (again.envelope.id, again.envelope.attempt, again.envelope.crashes) == (charged.id, 2, 1)

    async def test_a_suspect_that_is_retried_waits_with_the_others(self, broker):
        await suspect(broker, tasks(1))

        await broker.settle(ALICE, [Retry(await take_one(broker, suspects=True), 0.0)])

        assert await take(broker, suspects=True) == []
        claim = await take_one(broker)
        assert (claim.envelope.attempt, claim.envelope.crashes) == (3, 1)

    async def test_a_retried_task_that_has_crashed_is_a_suspect_when_it_is_handed_back(self, broker):
        await suspect(broker, tasks(1))
        await broker.settle(ALICE, [Retry(await take_one(broker, suspects=True), 0.0)])

        await broker.settle(ALICE, [Release(await take_one(broker))])

        assert await take(broker) == []
        assert (await take_one(broker, suspects=True)).envelope.attempt == 3

    async def test_suspects_are_counted_by_queue_while_they_wait(self, broker):
        assert await aside(broker.suspects) == {}
        await suspect(broker, tasks(3))
        await suspect(broker, tasks(1, queue="images"))
        await broker.apush(tasks(2, queue="letters"))
        await take_one(broker, suspects=True)
        await take(broker, queue="images", suspects=True)

        assert await aside(broker.suspects) == {"mail": 2}

    async def test_for_an_operator_suspects_wait(self, broker):
        await suspect(broker, tasks(2))
        await suspect(broker, tasks(1, queue="images"))

        assert await aside(broker.depth, "mail") == Depth(waiting=2, delayed=0, running=0)
        assert await aside(broker.queues) == ["images", "mail"]

    @pytest.mark.parametrize("lock", [mutex(), throttle()], ids=["mutex", "throttle"])
    async def test_clear_deletes_suspects_with_their_locks(self, broker, lock):
        await suspect(broker, [a_task(unique=lock)])
        assert await broker.apush([a_task(unique=lock)]) == [False]

        assert await aside(broker.clear, "mail") == 1

        assert await aside(broker.suspects) == {}
        assert await aside(broker.queues) == []
        assert await broker.apush([a_task(unique=lock)]) == [True]

    async def test_an_idle_claim_of_suspects_wakes_on_a_crash(self, broker, second_broker):
        await second_broker.apush(tasks(1))
        claim = await take_one(second_broker, owner=BOB)
        idle = await idle_claim(broker, suspects=True)

        await crash(second_broker, BOB)

        assert ids(await asyncio.wait_for(idle, AT_ONCE)) == [claim.envelope.id]

    async def test_an_idle_claim_of_suspects_wakes_on_one_that_is_given_back(self, broker, second_broker):
        await suspect(second_broker, tasks(1))
        claim = await take_one(second_broker, owner=BOB, suspects=True)
        idle = await idle_claim(broker, suspects=True)

        await second_broker.settle(BOB, [Release(claim)])

        assert ids(await asyncio.wait_for(idle, AT_ONCE)) == [claim.envelope.id]

    async def test_an_idle_claim_of_suspects_sleeps_through_everything_else(self, broker, second_broker, backdoor):
        due = a_task(run_after=in_an_hour())
        await second_broker.apush([due])
        await aside(backdoor.make_due, due.id)
        idle = asyncio.create_task(broker.claim(ALICE, "mail", 1, wait=0.3, suspects=True))

        await second_broker.apush(tasks(1))

        assert await asyncio.wait_for(idle, SOON) == []

    async def test_a_claim_of_suspects_that_is_cancelled_loses_none(self, broker, second_broker):
        await second_broker.apush(tasks(1))
        claim = await take_one(second_broker, owner=BOB)
        idle = await idle_claim(broker, suspects=True)

        await crash(second_broker, BOB)
        idle.cancel()
        await asyncio.wait({idle}, timeout=SOON)
        if idle.cancelled():
            await broker.keep_only(ALICE, [])
            [again] = await broker.claim(ALICE, "mail", 1, wait=SOON, suspects=True)
        else:
            [again] = idle.result()

        assert (again.envelope.id, again.envelope.attempt) == (claim.envelope.id, 2)
