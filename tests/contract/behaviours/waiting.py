"""When a claim that found nothing wakes."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from django_vtasks.brokers.base import Claim, Release, Retry
from tests.contract.backdoor import Store
from tests.contract.given import ALICE, BOB, a_task, tasks
from tests.contract.steps import AT_ONCE, SOON, crash, idle_claim, ids, take_one
from tests.contract.threads import aside

HANDING_BACK: dict[str, Callable[[Store, Claim], Awaitable[object]]] = {
    "release": lambda broker, claim: broker.settle(claim.owner, [Release(claim)]),
    "retry": lambda broker, claim: broker.settle(claim.owner, [Retry(claim, 0.0)]),
    "keep only": lambda broker, claim: broker.keep_only(claim.owner, []),
    "leave": lambda broker, claim: aside(broker.leave, claim.owner.node),
    "reclaim": lambda broker, claim: crash(broker, claim.owner, running=[]),
}


class Waiting:
    async def test_an_idle_claim_returns_when_its_wait_is_over(self, broker):
        async with asyncio.timeout(SOON):
            assert await broker.claim(ALICE, "mail", 1, wait=0.2) == []

    @pytest.mark.parametrize("brokers", ["one broker", "two brokers"])
    async def test_an_idle_claim_wakes_on_a_push(self, broker, second_broker, brokers):
        idle = await idle_claim(broker)
        pusher = broker if brokers == "one broker" else second_broker
        sent = a_task()

        await pusher.apush([sent])

        assert ids(await asyncio.wait_for(idle, AT_ONCE)) == [sent.id]

    async def test_an_idle_claim_wakes_on_a_push_from_a_thread(self, broker, second_broker):
        idle = await idle_claim(broker)
        sent = a_task()

        await aside(second_broker.push, [sent])

        assert ids(await asyncio.wait_for(idle, AT_ONCE)) == [sent.id]

    async def test_every_idle_claim_is_served(self, broker, second_broker):
        idle = [await idle_claim(broker), await idle_claim(second_broker, BOB)]

        for _ in idle:
            await second_broker.apush(tasks(1))

        served = await asyncio.wait_for(asyncio.gather(*idle), AT_ONCE)
        assert [len(claims) for claims in served] == [1, 1]

    async def test_two_idle_claims_of_one_queue_and_one_broker_are_served(self, broker, second_broker):
        idle = [await idle_claim(broker), await idle_claim(broker, BOB)]

        for _ in idle:
            await second_broker.apush(tasks(1))

        served = await asyncio.wait_for(asyncio.gather(*idle), AT_ONCE)
        assert [len(claims) for claims in served] == [1, 1]

    async def test_an_idle_claim_wakes_on_a_push_beside_claims_of_suspects(self, broker, second_broker):
        idle = await idle_claim(broker)
        sent = a_task()

        async def claim_suspects():
            while True:
                assert await broker.claim(BOB, "mail", 1, suspects=True) == []
                await asyncio.sleep(0)

        claiming = asyncio.create_task(claim_suspects())
        await second_broker.apush([sent])

        assert ids(await asyncio.wait_for(idle, AT_ONCE)) == [sent.id]
        claiming.cancel()
        await asyncio.wait({claiming})

    async def test_an_idle_claim_wakes_when_a_delayed_task_is_due(self, broker):
        idle = await idle_claim(broker)
        due = time.time() + 0.3

        await broker.apush([a_task(run_after=due)])

        assert await asyncio.wait_for(idle, AT_ONCE)
        assert time.time() >= due

    @pytest.mark.parametrize("hand_back", HANDING_BACK.values(), ids=HANDING_BACK)
    async def test_an_idle_claim_wakes_on_a_task_that_another_owner_hands_back(self, broker, second_broker, hand_back):
        await broker.apush(tasks(1))
        claim = await take_one(broker, owner=BOB)
        idle = await idle_claim(broker)

        await hand_back(second_broker, claim)

        assert ids(await asyncio.wait_for(idle, AT_ONCE)) == [claim.envelope.id]

    async def test_an_idle_claim_sleeps_through_what_other_queues_get(self, broker, second_broker):
        idle = asyncio.create_task(broker.claim(ALICE, "mail", 1, wait=0.3))

        await second_broker.apush(tasks(1, queue="images"))

        assert await asyncio.wait_for(idle, SOON) == []

    async def test_after_a_cancelled_idle_claim_the_next_one_gets_the_task(self, broker):
        idle = await idle_claim(broker)

        idle.cancel()
        await asyncio.wait({idle}, timeout=SOON)
        await broker.apush(tasks(1))

        assert idle.cancelled()
        [claim] = await asyncio.wait_for(broker.claim(ALICE, "mail", 1, wait=SOON), AT_ONCE)
        assert claim.envelope.attempt == 1

    async def test_a_claim_cancelled_as_a_task_arrives_loses_nothing(self, broker, second_broker):
        idle = await idle_claim(broker)
        sent = a_task()

        await second_broker.apush([sent])
        idle.cancel()
        await asyncio.wait({idle}, timeout=SOON)
        # Without a look at what is booked on the owner: one that pauses has none.
        [claim] = await broker.claim(ALICE, "mail", 1, wait=SOON) if idle.cancelled() else idle.result()

        assert (claim.envelope.id, claim.envelope.attempt) == (sent.id, 1)
