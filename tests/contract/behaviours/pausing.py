"""A queue that an operator pauses and resumes."""

import asyncio
import time

import pytest

from django_vtasks.brokers.base import Ack, Claim, Depth, Owner
from django_vtasks.errors import LeaseLost
from tests.contract.given import ALICE, BOB, a_task, in_an_hour, mutex, tasks
from tests.contract.steps import AT_ONCE, SOON, crash, idle_claim, ids, ids_of, suspect, take
from tests.contract.threads import aside, at_once


class Pausing:
    async def test_of_a_paused_queue_nothing_is_claimed_until_it_is_resumed(self, broker, second_broker):
        sent = tasks(3)
        await broker.apush([*sent, *tasks(2, queue="images")])
        await aside(second_broker.pause, "mail")

        assert await take(broker) == []
        assert len(await take(broker, queue="images")) == 2
        assert await aside(broker.depth, "mail") == Depth(waiting=3, delayed=0, running=0)

        await aside(second_broker.resume, "mail")
        assert ids(await take(broker)) == ids_of(sent)

    async def test_suspects_of_a_paused_queue_wait_too(self, broker):
        await suspect(broker, tasks(2))
        await aside(broker.pause, "mail")

        assert await take(broker, suspects=True) == []

        await aside(broker.resume, "mail")
        assert len(await take(broker, suspects=True)) == 2

    async def test_which_queues_are_paused_is_known_to_all(self, broker, second_broker):
        assert await aside(second_broker.paused) == set()

        for queue in ("mail", "odd:name 50%", "mail"):
            await aside(broker.pause, queue)
        assert await aside(second_broker.paused) == {"mail", "odd:name 50%"}

        for queue in ("odd:name 50%", "odd:name 50%", "never paused"):
            await aside(second_broker.resume, queue)
        assert await aside(broker.paused) == {"mail"}

    async def test_a_pause_is_neither_a_task_nor_ended_by_a_clear(self, broker):
        await aside(broker.pause, "mail")
        assert await aside(broker.queues) == []
        await broker.apush(tasks(2))

        assert await aside(broker.clear, "mail") == 2
        assert await aside(broker.paused) == {"mail"}

    async def test_a_paused_queue_takes_tasks_and_refuses_duplicates(self, broker):
        await aside(broker.pause, "mail")

        assert await broker.apush([a_task(unique=mutex()), a_task(unique=mutex())]) == [True, False]

        assert await aside(broker.depth, "mail") == Depth(waiting=1, delayed=0, running=0)

    async def test_what_runs_while_its_queue_is_paused_ends_as_ever(self, broker):
        await broker.apush(tasks(2))
        first, second = await take(broker)
        await aside(broker.pause, "mail")

        assert await broker.settle(ALICE, [Ack(first)]) == [True]
        await crash(broker, running=[second])

        assert await aside(broker.suspects) == {"mail": 1}

    async def test_a_pause_holds_for_a_claim_that_waits_already(self, broker, second_broker):
        idle = await idle_claim(broker)
        await aside(second_broker.pause, "mail")

        await second_broker.apush(tasks(1))
        await asyncio.wait({idle}, timeout=0.5)
        assert not idle.done()

        await aside(second_broker.resume, "mail")
        assert len(await asyncio.wait_for(idle, AT_ONCE)) == 1

    async def test_every_idle_claim_wakes_when_its_queue_is_resumed(self, broker, second_broker):
        await aside(broker.pause, "mail")
        await broker.apush(tasks(2))
        idle = [await idle_claim(broker), await idle_claim(second_broker, BOB)]

        await aside(broker.resume, "mail")

        served = await asyncio.wait_for(asyncio.gather(*idle), AT_ONCE)
        assert [len(claims) for claims in served] == [1, 1]

    async def test_an_idle_claim_of_suspects_wakes_when_its_queue_is_resumed(self, broker, second_broker):
        await suspect(broker, tasks(1))
        await aside(broker.pause, "mail")
        idle = await idle_claim(broker, suspects=True)

        await aside(second_broker.resume, "mail")

        assert len(await asyncio.wait_for(idle, AT_ONCE)) == 1

    async def test_a_delayed_task_that_comes_due_in_a_pause_waits_for_its_end(self, broker):
        await aside(broker.pause, "mail")
        idle = await idle_claim(broker)
        await broker.apush([a_task(run_after=time.time() + 0.2)])
        await asyncio.wait({idle}, timeout=0.5)
        assert not idle.done()

        await aside(broker.resume, "mail")

        assert len(await asyncio.wait_for(idle, AT_ONCE)) == 1

    async def test_a_task_that_is_delayed_beyond_a_pause_is_claimed_in_time(self, broker):
        await aside(broker.pause, "mail")
        await broker.apush([a_task(run_after=time.time() + 0.5), a_task(run_after=in_an_hour())])
        idle = await idle_claim(broker)

        await aside(broker.resume, "mail")

        assert len(await asyncio.wait_for(idle, AT_ONCE)) == 1

    async def test_a_claim_that_waits_for_a_paused_queue_ends_when_its_wait_is_over(self, broker, backdoor):
        due = a_task(run_after=in_an_hour())
        await broker.apush([*tasks(1), due])
        await aside(backdoor.make_due, due.id)
        await aside(broker.pause, "mail")

        began = time.process_time()
        async with asyncio.timeout(SOON):
            assert await broker.claim(ALICE, "mail", 1, wait=0.5) == []

        assert time.process_time() - began < 0.25, "it has looked without a pause"

    async def test_without_a_lease_a_claim_of_a_paused_queue_fails(self, broker):
        await aside(broker.pause, "mail")

        with pytest.raises(LeaseLost):
            await take(broker, owner=Owner("nowhere", "mail#1"))

    async def test_a_claim_after_a_pause_takes_nothing_however_many_claim(self, broker, backdoor):
        await broker.apush(tasks(200))

        def work(number):
            if not number:
                broker.pause("mail")
                return []
            return asyncio.run(claim_until_paused(backdoor.open()))

        claimed = [claim for claims in await asyncio.to_thread(at_once, work, 3) for claim in claims]

        assert await take(broker) == []
        await aside(broker.resume, "mail")
        assert len(await take(broker)) == 200 - len(claimed)


async def claim_until_paused(broker):
    claimed: list[Claim] = []
    while claims := await take(broker, 2):
        claimed += claims
    await broker.aclose()
    return claimed
