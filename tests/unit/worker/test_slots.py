"""How many claims an actor may hold."""

import asyncio

import pytest

from django_vtasks.worker.slots import Slots
from tests.unit.worker.doubles import turns


def slots_used_to(seconds, limit=20):
    slots = Slots(limit)
    for _ in range(50):
        slots.take(1)
        slots.free(seconds)
    return slots


@pytest.mark.parametrize("limit", [1, 20, 100])
async def test_before_anything_is_known_of_its_tasks_an_actor_claims_what_it_can_run_and_no_more(limit):
    assert Slots(limit).room == limit


async def test_short_tasks_are_claimed_ahead_as_many_as_run():
    assert slots_used_to(0.001).room == 40


async def test_long_tasks_are_not_claimed_ahead():
    assert slots_used_to(10.0).room == 20


async def test_the_longer_the_tasks_the_fewer_are_claimed_ahead():
    rooms = [slots_used_to(seconds).room for seconds in (0.01, 0.05, 0.1, 0.2, 0.5, 2.0)]

    assert rooms == sorted(rooms, reverse=True)


@pytest.mark.parametrize("limit", [1, 20, 100])
async def test_after_slowing_down_nothing_is_claimed_ahead(limit):
    """What a full actor claims an idle one cannot run: given back, it would be claimed again at once."""
    slots = slots_used_to(0.001, limit=limit)
    slots.slow_down()

    assert slots.room == limit


async def test_room_shrinks_with_what_is_taken_and_is_never_negative():
    slots = slots_used_to(10.0)
    slots.take(15)
    assert slots.room == 5
    slots.take(15)
    assert slots.room == 0


async def test_a_free_slot_wakes_who_waits_for_room():
    slots = slots_used_to(10.0, limit=2)
    slots.take(2)
    waiting = asyncio.create_task(slots.wait_for_room())
    await turns()
    assert not waiting.done()
    slots.free(10.0)

    assert await waiting == 1


async def test_room_that_is_there_is_not_waited_for():
    assert await asyncio.wait_for(Slots(3).wait_for_room(), 1) >= 3


async def test_empty_means_that_nothing_is_held():
    slots = Slots(3)
    slots.take(2)
    waiting = asyncio.create_task(slots.wait_until_empty())
    slots.free()
    await turns()
    assert not waiting.done()
    slots.free(None)

    await asyncio.wait_for(waiting, 1)


@pytest.mark.parametrize("unknown", [None, 0.0])
async def test_a_task_that_did_not_run_or_took_no_time_breaks_no_sum(unknown):
    slots = Slots(4)
    for _ in range(200):
        slots.take(1)
        slots.free(unknown)

    assert 4 <= slots.room <= 8
