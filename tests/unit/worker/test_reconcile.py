"""What is booked and did not arrive goes back; what is held does not."""

import asyncio

import pytest

from django_vtasks.brokers.base import Claim, Depth
from django_vtasks.worker import reconcile
from django_vtasks.worker.reconcile import Reconciler
from tests.contract.given import tasks
from tests.unit.worker.doubles import OWNER, a_broker


@pytest.fixture
def broker():
    return a_broker()


async def test_what_is_not_held_goes_back_and_what_is_held_stays(broker):
    broker.push(tasks(3))
    arrived, _, _ = await broker.claim(OWNER, "mail", 3)
    await Reconciler(broker, OWNER, lambda: [arrived]).look()

    assert broker.kept == [{arrived.receipt}]
    assert broker.depth("mail") == Depth(waiting=2, delayed=0, running=1)


async def test_what_is_held_is_asked_at_each_look(broker):
    held: list[Claim] = []
    reconciler = Reconciler(broker, OWNER, lambda: held)
    await reconciler.look()
    broker.push(tasks(1))
    held += await broker.claim(OWNER, "mail", 1)
    reconciler.look_soon()
    await reconciler.look()

    assert broker.kept == [set(), {held[0].receipt}]


async def test_between_two_looks_it_rests(broker):
    reconciler = Reconciler(broker, OWNER, list)
    for _ in range(5):
        await reconciler.look()

    assert len(broker.kept) == 1


async def test_it_looks_again_after_a_time(broker, monkeypatch):
    monkeypatch.setattr(reconcile, "EVERY", 0.01)
    reconciler = Reconciler(broker, OWNER, list)
    async with asyncio.timeout(5):
        while len(broker.kept) < 3:
            await reconciler.look()
            await asyncio.sleep(0)


async def test_asked_to_it_looks_the_next_time(broker):
    reconciler = Reconciler(broker, OWNER, list)
    await reconciler.look()
    reconciler.look_soon()
    await reconciler.look()
    await reconciler.look()

    assert len(broker.kept) == 2


async def test_a_look_that_fails_is_repeated_at_once(broker):
    reconciler = Reconciler(broker, OWNER, list)
    broker.trouble["keep_only"] = OSError("closed")
    with pytest.raises(OSError, match="closed"):
        await reconciler.look()
    broker.trouble.clear()
    await reconciler.look()
    await reconciler.look()

    assert len(broker.kept) == 2
