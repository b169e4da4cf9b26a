"""Who leads in a role, and that each slot of a schedule is enqueued once, whoever leads."""

import asyncio
from functools import partial

import pytest

from django_vtasks.brokers.base import Ack, Depth, Tick
from tests.contract.given import ALICE, BOB, a_task, mutex
from tests.contract.steps import AT_ONCE, idle_claim, ids, take, take_one
from tests.contract.threads import aside, at_once

ROLE = "scheduler"
A_TERM = 60.0
NOON = 1_700_000_000.0


class Leading:
    async def test_the_first_who_asks_leads_and_goes_on_leading(self, broker):
        first = await aside(broker.lead, ROLE, "north", A_TERM)

        assert first is not None
        assert await aside(broker.lead, ROLE, "north", A_TERM) == first
        assert await aside(broker.leader, ROLE) == "north"

    async def test_while_one_leads_nobody_else_does(self, broker, second_broker):
        await aside(broker.lead, ROLE, "north", A_TERM)

        assert await aside(second_broker.lead, ROLE, "south", A_TERM) is None
        assert await aside(second_broker.leader, ROLE) == "north"

    async def test_before_anybody_asks_nobody_leads(self, broker):
        assert await aside(broker.leader, ROLE) is None

    async def test_a_leader_whose_term_is_over_is_followed_by_one_with_a_higher_number(self, broker, backdoor):
        first = await aside(broker.lead, ROLE, "north", A_TERM)
        await aside(backdoor.end_term, ROLE)

        assert await aside(broker.leader, ROLE) is None
        second = await aside(broker.lead, ROLE, "south", A_TERM)

        assert second > first
        assert await aside(broker.lead, ROLE, "north", A_TERM) is None

    async def test_a_leader_that_comes_late_goes_on_when_nobody_has_followed(self, broker, backdoor):
        first = await aside(broker.lead, ROLE, "north", A_TERM)
        await aside(backdoor.end_term, ROLE)

        assert await aside(broker.lead, ROLE, "north", A_TERM) == first
        assert await aside(broker.lead, ROLE, "south", A_TERM) is None

    async def test_a_leader_that_resigns_is_followed_at_once(self, broker):
        first = await aside(broker.lead, ROLE, "north", A_TERM)
        await aside(broker.resign, ROLE, "north")

        assert await aside(broker.leader, ROLE) is None
        assert await aside(broker.lead, ROLE, "south", A_TERM) > first

    async def test_a_leader_that_resigned_leads_again_with_a_higher_number(self, broker):
        first = await aside(broker.lead, ROLE, "north", A_TERM)
        await aside(broker.resign, ROLE, "north")

        assert await aside(broker.lead, ROLE, "north", A_TERM) > first

    async def test_who_does_not_lead_resigns_without_effect(self, broker):
        await aside(broker.resign, ROLE, "south")
        await aside(broker.lead, ROLE, "north", A_TERM)

        await aside(broker.resign, ROLE, "south")

        assert await aside(broker.leader, ROLE) == "north"

    async def test_each_role_has_a_leader_of_its_own(self, broker):
        await aside(broker.lead, ROLE, "north", A_TERM)

        assert await aside(broker.lead, "reporter", "south", A_TERM) is not None

    def test_of_many_who_ask_at_once_one_leads(self, broker, backdoor):
        numbers = at_once(lambda number: backdoor.open().lead(ROLE, f"node-{number}", A_TERM), 4)

        assert len([number for number in numbers if number is not None]) == 1


class Ticking:
    async def test_a_slot_is_enqueued_once(self, broker, second_broker):
        first, second = a_task(), a_task()

        assert await aside(broker.tick, "report", NOON, first) is Tick.ENQUEUED
        assert await aside(second_broker.tick, "report", NOON, second) is Tick.TAKEN

        assert ids(await take(broker)) == [first.id]

    async def test_an_older_slot_is_over(self, broker):
        await aside(broker.tick, "report", NOON, a_task())

        assert await aside(broker.tick, "report", NOON - 60, a_task()) is Tick.TAKEN
        assert await aside(broker.tick, "report", NOON + 60, a_task()) is Tick.ENQUEUED

        assert await aside(broker.depth, "mail") == Depth(waiting=2, delayed=0, running=0)

    async def test_each_entry_has_slots_of_its_own(self, broker):
        assert await aside(broker.tick, "report", NOON, a_task()) is Tick.ENQUEUED
        assert await aside(broker.tick, "cleanup", NOON - 60, a_task()) is Tick.ENQUEUED

        assert await aside(broker.slots) == {"report": NOON, "cleanup": NOON - 60}

    async def test_slots_less_than_a_second_apart_are_told_apart(self, broker):
        assert await aside(broker.tick, "report", NOON, a_task()) is Tick.ENQUEUED
        assert await aside(broker.tick, "report", NOON + 0.001, a_task()) is Tick.ENQUEUED

    async def test_a_slot_whose_unique_task_is_under_way_is_over_without_another(self, broker):
        first = a_task(unique=mutex())
        await aside(broker.tick, "report", NOON, first)

        assert await aside(broker.tick, "report", NOON + 60, a_task(unique=mutex())) is Tick.REFUSED
        assert await aside(broker.tick, "report", NOON + 60, a_task(unique=mutex("other"))) is Tick.TAKEN

        await broker.settle(ALICE, [Ack(await take_one(broker))])
        assert await aside(broker.tick, "report", NOON + 120, a_task(unique=mutex())) is Tick.ENQUEUED

    @pytest.mark.parametrize("priority", [1, -1])
    async def test_a_tick_enqueues_as_any_push_does(self, broker, priority):
        sent = a_task(priority=priority, queue="images")
        await aside(broker.tick, "report", NOON, sent)

        [claim] = await take(broker, owner=BOB, queue="images")
        assert claim.envelope.id == sent.id

    async def test_a_task_that_cannot_be_stored_leaves_its_slot_open(self, broker):
        with pytest.raises(TypeError):
            await aside(broker.tick, "report", NOON, a_task(object()))

        assert await aside(broker.tick, "report", NOON, a_task()) is Tick.ENQUEUED

    async def test_an_idle_claim_wakes_on_a_tick(self, broker, second_broker):
        idle = await idle_claim(broker)
        sent = a_task()

        await aside(second_broker.tick, "report", NOON, sent)

        assert ids(await asyncio.wait_for(idle, AT_ONCE)) == [sent.id]

    def test_of_many_who_tick_at_once_one_enqueues(self, broker, backdoor):
        stores = [backdoor.open() for _ in range(4)]

        def tick(number, slot):
            return stores[number].tick("report", NOON + slot, a_task())

        for slot in range(5):
            ticks = at_once(partial(tick, slot=slot), 4)
            assert sorted(tick.name for tick in ticks) == ["ENQUEUED", "TAKEN", "TAKEN", "TAKEN"]

        assert broker.depth("mail").waiting == 5
