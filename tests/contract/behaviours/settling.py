"""What becomes of claims, once, and by their owner only."""

import asyncio
import time
from dataclasses import replace as replaced

from django_vtasks.brokers.base import Ack, Bury, Depth, Reclaimed, Release, Retry
from tests.contract.given import ALICE, BOB, FAILURE, a_task, tasks
from tests.contract.steps import SOON, crash, every_ending, ids, ids_of, picture, take, take_one
from tests.contract.threads import aside

HOLDS: dict[type, tuple[int, int]] = {Ack: (0, 0), Bury: (0, 1), Release: (1, 0), Retry: (1, 0)}
"""How many tasks wait, and how many have failed, after one of them."""


class Settling:
    async def test_an_acknowledged_task_is_gone(self, broker):
        await broker.apush(tasks(1))

        assert await broker.settle(ALICE, [Ack(await take_one(broker))]) == [True]

        assert await aside(broker.queues) == []
        assert await aside(broker.failed_count) == 0
        assert await crash(broker) == Reclaimed([], [])

    async def test_a_buried_task_stands_in_the_failed_list(self, broker):
        sent = a_task(queue="mail")
        await broker.apush([sent])

        assert await broker.settle(ALICE, [Bury(await take_one(broker), FAILURE)]) == [True]

        [entry] = await aside(broker.failed)
        assert (entry.id, entry.queue, entry.task) == (sent.id, "mail", "demo.tasks.send")
        assert (entry.failure, entry.attempts, entry.crashes) == (FAILURE, 1, 0)
        assert abs(entry.failed_at - time.time()) < 60
        assert await aside(broker.queues) == []

    async def test_a_retried_task_waits_out_its_delay(self, broker, backdoor):
        sent = a_task()
        await broker.apush([sent])

        assert await broker.settle(ALICE, [Retry(await take_one(broker), 3600.0)]) == [True]

        assert await take(broker) == []
        assert await aside(broker.depth, "mail") == Depth(waiting=0, delayed=1, running=0)
        await aside(backdoor.make_due, sent.id)
        assert (await take_one(broker)).envelope.attempt == 2

    async def test_a_task_retried_without_delay_is_due_at_once(self, broker):
        await broker.apush(tasks(1))

        await broker.settle(ALICE, [Retry(await take_one(broker), 0.0)])

        assert (await take_one(broker)).envelope.attempt == 2

    async def test_an_idle_claim_wakes_when_a_retry_is_due(self, broker):
        await broker.apush(tasks(1))

        await broker.settle(ALICE, [Retry(await take_one(broker), 0.2)])

        async with asyncio.timeout(SOON):
            [claim] = await broker.claim(ALICE, "mail", 1, wait=60.0)
        assert claim.envelope.attempt == 2

    async def test_a_released_task_is_as_if_it_had_not_been_claimed(self, broker):
        sent = tasks(3)
        await broker.apush(sent)
        claims = await take(broker, 2)

        assert await broker.settle(ALICE, [Release(claim) for claim in claims]) == [True, True]

        again = await take(broker)
        assert ids(again) == ids_of(sent)
        assert [claim.envelope.attempt for claim in again] == [1, 1, 1]

    async def test_an_empty_settle_does_nothing(self, broker):
        assert await broker.settle(ALICE, []) == []

    async def test_all_four_endings_go_through_one_settle(self, broker):
        sent = tasks(4)
        await broker.apush(sent)
        claims = await take(broker)

        settlements = [Release(claims[0]), Bury(claims[1], FAILURE), Ack(claims[2]), Retry(claims[3], 3600.0)]
        assert await broker.settle(ALICE, settlements) == [True] * 4

        assert await aside(broker.depth, "mail") == Depth(waiting=1, delayed=1, running=0)
        assert [entry.id for entry in await aside(broker.failed)] == [sent[1].id]
        assert ids(await take(broker)) == [sent[0].id]

    async def test_a_settle_answers_in_the_order_of_its_input(self, broker):
        await broker.apush(tasks(4))
        claims = await take(broker)
        await broker.settle(ALICE, [Ack(claims[0]), Bury(claims[2], FAILURE)])

        answers = await broker.settle(ALICE, [Release(claims[0]), Ack(claims[1]), Ack(claims[2]), Release(claims[3])])

        assert answers == [False, True, False, True]

    async def test_a_thousand_claims_are_settled_in_one_call(self, broker):
        await broker.apush(tasks(1000))
        claims = await take(broker, 1000)

        settlements = [(Ack, Release)[number % 2](claim) for number, claim in enumerate(claims)]
        assert await broker.settle(ALICE, settlements) == [True] * 1000

        assert await aside(broker.depth, "mail") == Depth(waiting=500, delayed=0, running=0)

    @every_ending
    async def test_a_settlement_holds_once(self, broker, ending):
        await broker.apush(tasks(1))
        claim = await take_one(broker)
        assert await broker.settle(ALICE, [ending(claim)]) == [True]
        before = await picture(broker)

        assert await broker.settle(ALICE, [ending(claim)]) == [False]

        assert await picture(broker) == before

    @every_ending
    async def test_of_two_settlements_of_one_claim_in_one_call_the_first_holds(self, broker, ending):
        await broker.apush(tasks(2))
        claim, other = await take(broker)

        answers = await broker.settle(ALICE, [ending(claim), Ack(other), Ack(claim), Bury(claim, FAILURE)])

        assert answers == [True, True, False, False]
        waiting, failed = HOLDS[type(ending(claim))]
        assert await aside(broker.depth, "mail") == Depth(waiting=waiting, delayed=0, running=0)
        assert await aside(broker.failed_count) == failed

    async def test_of_two_acknowledgements_of_one_claim_in_one_call_the_first_holds(self, broker):
        await broker.apush(tasks(2))
        claim, other = await take(broker)

        assert await broker.settle(ALICE, [Ack(claim), Ack(other), Ack(claim)]) == [True, True, False]

    @every_ending
    async def test_a_settlement_after_a_reclaim_is_refused(self, broker, ending):
        await broker.apush(tasks(1))
        late = await take_one(broker)
        await crash(broker)
        before = await picture(broker)

        assert await broker.settle(ALICE, [ending(late)]) == [False]

        assert await picture(broker) == before

    @every_ending
    async def test_a_settlement_after_a_reclaim_does_not_touch_the_next_owner(self, broker, ending):
        await broker.apush(tasks(1))
        late = await take_one(broker)
        await crash(broker)
        claim = await take_one(broker, owner=BOB, suspects=True)

        assert await broker.settle(ALICE, [ending(late)]) == [False]

        assert await broker.settle(BOB, [Ack(claim)]) == [True]

    @every_ending
    async def test_a_settlement_of_an_earlier_claim_by_the_same_owner_is_refused(self, broker, ending):
        await broker.apush(tasks(1))
        earlier = await take_one(broker)
        await broker.keep_only(ALICE, [])
        claim = await take_one(broker)

        assert await broker.settle(ALICE, [ending(earlier)]) == [False]

        assert claim.receipt != earlier.receipt
        assert await broker.settle(ALICE, [Ack(claim)]) == [True]

    @every_ending
    async def test_an_earlier_and_the_present_claim_in_one_settle_are_told_apart(self, broker, ending):
        await broker.apush(tasks(1))
        earlier = await take_one(broker)
        await broker.keep_only(ALICE, [])
        claim = await take_one(broker)

        assert await broker.settle(ALICE, [ending(earlier), ending(claim)]) == [False, True]

    @every_ending
    async def test_a_settlement_by_another_owner_is_refused(self, broker, ending):
        await broker.apush(tasks(1))
        claim = await take_one(broker)

        for other in (BOB, replaced(ALICE, slot="mail#2"), replaced(ALICE, incarnation=2)):
            assert await broker.settle(other, [ending(claim)]) == [False]

        assert await broker.settle(ALICE, [Ack(claim)]) == [True]

    @every_ending
    async def test_a_settlement_after_the_node_left_is_refused(self, broker, ending):
        await broker.apush(tasks(1))
        late = await take_one(broker)
        await aside(broker.leave, ALICE.node)
        before = await picture(broker)

        assert await broker.settle(ALICE, [ending(late)]) == [False]

        assert await picture(broker) == before
