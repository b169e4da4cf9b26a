"""What a claim takes, in which order, and that nobody else gets it."""

import asyncio
import time
from dataclasses import replace as replaced
from itertools import batched, chain

from msgspec.structs import replace

from django_vtasks.brokers.base import Claim, Depth
from tests.contract.given import ALICE, BOB, a_task, in_an_hour, tasks
from tests.contract.steps import SOON, drain, ids, ids_of, take, take_one
from tests.contract.threads import aside, at_once


class Claiming:
    @staticmethod
    def in_order(*pushed):
        """Return tasks, pushed or due one group after the other, as they are claimed: by priority, then by age."""
        return sorted(chain(*pushed), key=lambda task: (-task.priority, task.enqueued_at))

    async def test_an_empty_queue_gives_nothing(self, broker):
        assert await take(broker) == []

    async def test_a_claim_takes_no_more_than_its_limit(self, broker):
        await broker.apush(tasks(5))

        assert len(await take(broker, 3)) == 3
        assert len(await take(broker, 3)) == 2
        assert await take(broker, 3) == []

    async def test_a_claim_leaves_other_queues_alone(self, broker):
        await broker.apush(tasks(2, queue="images"))

        assert await take(broker, queue="mail") == []
        assert await aside(broker.depth, "images") == Depth(waiting=2, delayed=0, running=0)

    async def test_a_claimed_task_is_nobody_elses(self, broker, second_broker):
        await broker.apush(tasks(1))
        await take_one(broker)

        assert await take(broker) == []
        assert await take(second_broker, owner=BOB) == []

    async def test_the_highest_priority_comes_first(self, broker):
        sent = [a_task(priority=priority) for priority in (0, -100, 100, 1, -1)]
        await broker.apush(sent)

        assert ids(await take(broker)) == ids_of(self.in_order(sent))

    async def test_equal_priorities_keep_their_order_within_a_push(self, broker):
        sent = [a_task(priority=priority) for priority in (0, 5, -5) * 20]
        await broker.apush(sent)

        assert ids(await take(broker)) == ids_of(self.in_order(sent))

    async def test_equal_priorities_keep_their_order_across_pushes_at_the_same_time(self, broker, second_broker):
        sent = [replace(task, enqueued_at=1.0) for task in tasks(6)]
        for index, task in enumerate(sent):
            await (second_broker if index % 2 else broker).apush([task])

        assert ids(await take(broker)) == ids_of(sent)

    async def test_order_holds_across_claims(self, broker):
        sent = [a_task(priority=priority) for priority in (0, 1) * 10]
        await broker.apush(sent)

        taken = [task_id for _ in range(10) for task_id in ids(await take(broker, 2))]

        assert taken == ids_of(self.in_order(sent))

    async def test_a_delayed_task_is_not_claimed_before_its_time(self, broker):
        await broker.apush([a_task(run_after=in_an_hour(), priority=100)])

        assert await take(broker) == []
        assert await aside(broker.depth, "mail") == Depth(waiting=0, delayed=1, running=0)

    async def test_a_task_whose_time_is_past_is_due_at_once(self, broker):
        past, plain = a_task(run_after=time.time() - 60), a_task()
        await broker.apush([past, plain])

        assert ids(await take(broker)) == [past.id, plain.id]

    async def test_a_delayed_task_takes_its_place_once_due(self, broker, backdoor):
        first, later, last = a_task(), a_task(run_after=in_an_hour()), a_task()
        urgent = a_task(run_after=in_an_hour(), priority=1)
        await broker.apush([first, later, last, urgent])

        await aside(backdoor.make_due, later.id)
        await aside(backdoor.make_due, urgent.id)

        assert ids(await take(broker)) == ids_of(self.in_order([first, last], [later, urgent]))

    async def test_attempts_count_from_one(self, broker):
        await broker.apush(tasks(1))

        claim = await take_one(broker)

        assert (claim.envelope.attempt, claim.envelope.crashes) == (1, 0)

    async def test_two_brokers_never_claim_the_same_task(self, broker, backdoor):
        sent = tasks(300)
        await broker.apush(sent)

        owners = [replaced(owner, slot=f"mail#{slot}") for owner in (ALICE, BOB) for slot in range(3)]
        shares = await asyncio.gather(*(drain(backdoor.open(), owner) for owner in owners))

        assert sorted(sum(shares, [])) == sorted(ids_of(sent))

    def test_claimers_in_threads_never_claim_the_same_task(self, broker, backdoor):
        sent = tasks(300)
        broker.push(sent)

        shares = at_once(lambda slot: asyncio.run(drain(backdoor.open(), replaced(ALICE, slot=f"mail#{slot}"))), 4)

        assert sorted(sum(shares, [])) == sorted(ids_of(sent))

    async def test_nothing_is_lost_between_pushers_and_claimers_at_work_together(self, broker, backdoor):
        sent = tasks(200)
        claims: list[Claim] = []

        async def produce():
            for chunk in batched(sent, 10):
                await broker.apush(chunk)

        async def consume():
            while len(claims) < len(sent):
                claims.extend(await broker.claim(ALICE, "mail", 9, wait=5.0))

        async with asyncio.timeout(SOON):
            await asyncio.gather(produce(), consume())

        assert sorted(ids(claims)) == sorted(ids_of(sent))
