"""That each slot of a schedule is enqueued once, whoever ticks, and that many are ticked like one."""

import asyncio

import pytest

from django_vtasks import wire
from django_vtasks.brokers.base import Ack, Depth, Due, Tick
from tests.contract.given import ALICE, BOB, NOON, a_task, due, in_an_hour, mutex, throttle
from tests.contract.steps import AT_ONCE, idle_claim, ids, schedule, take, take_one
from tests.contract.threads import aside, at_once

MANY = 300


class Ticking:
    async def test_a_slot_is_enqueued_once(self, broker, second_broker, backdoor):
        await schedule(broker, backdoor, "report")
        first, second = due("report", NOON), due("report", NOON)

        assert await aside(broker.tick, [first]) == [Tick.ENQUEUED]
        assert await aside(second_broker.tick, [second]) == [Tick.TAKEN]

        assert ids(await take(broker)) == [first.envelope.id]

    async def test_a_tick_that_is_repeated_enqueues_nothing(self, broker, backdoor):
        """Its answer may have been lost."""
        await schedule(broker, backdoor, "report", "cleanup")
        dues = [due("report", NOON), due("cleanup", NOON), due("cleanup", NOON + 60)]

        assert await aside(broker.tick, dues) == [Tick.ENQUEUED] * 3
        assert await aside(broker.tick, dues) == [Tick.TAKEN] * 3

        assert await aside(broker.depth, "mail") == Depth(waiting=3, delayed=0, running=0)

    async def test_an_older_slot_is_over(self, broker, backdoor):
        await schedule(broker, backdoor, "report")
        await aside(broker.tick, [due("report", NOON)])

        assert await aside(broker.tick, [due("report", NOON - 60)]) == [Tick.TAKEN]
        assert await aside(broker.tick, [due("report", NOON + 60)]) == [Tick.ENQUEUED]

        assert await aside(broker.depth, "mail") == Depth(waiting=2, delayed=0, running=0)
        assert (await aside(broker.standings))["report"].last == NOON + 60

    async def test_a_slot_from_before_its_entry_was_registered_is_over(self, broker):
        since = (await aside(broker.register, {"report": "hourly"}))["report"].since

        for slot in (NOON, since):
            assert await aside(broker.tick, [due("report", slot)]) == [Tick.TAKEN]
        assert await aside(broker.tick, [due("report", since + 1)]) == [Tick.ENQUEUED]

        assert await aside(broker.depth, "mail") == Depth(waiting=1, delayed=0, running=0)

    async def test_an_entry_that_nobody_has_registered_has_no_slots(self, broker, backdoor):
        await schedule(broker, backdoor, "report")
        ticks = await aside(broker.tick, [due("stranger", in_an_hour()), due("report", NOON)])

        assert ticks == [Tick.TAKEN, Tick.ENQUEUED]
        assert (await aside(broker.standings)).keys() == {"report"}
        assert await aside(broker.depth, "mail") == Depth(waiting=1, delayed=0, running=0)

    async def test_several_slots_of_one_entry_are_enqueued_in_order(self, broker, backdoor):
        await schedule(broker, backdoor, "report")
        await aside(broker.tick, [due("report", NOON)])
        dues = [due("report", NOON + minutes * 60) for minutes in range(4)]

        assert await aside(broker.tick, dues) == [Tick.TAKEN, *[Tick.ENQUEUED] * 3]

        assert ids(await take(broker))[1:] == [each.envelope.id for each in dues[1:]]
        assert (await aside(broker.standings))["report"].last == NOON + 180

    async def test_a_slot_that_is_named_twice_in_one_call_is_enqueued_once(self, broker, backdoor):
        await schedule(broker, backdoor, "report")
        dues = [due("report", NOON), due("report", NOON), due("report", NOON - 60), due("report", NOON + 60)]

        assert await aside(broker.tick, dues) == [Tick.ENQUEUED, Tick.TAKEN, Tick.TAKEN, Tick.ENQUEUED]

        assert ids(await take(broker)) == [dues[0].envelope.id, dues[3].envelope.id]

    async def test_each_entry_has_slots_of_its_own(self, broker, backdoor):
        await schedule(broker, backdoor, "report", "cleanup", "idle")

        assert await aside(broker.tick, [due("report", NOON)]) == [Tick.ENQUEUED]
        assert await aside(broker.tick, [due("report", NOON), due("cleanup", NOON - 60)]) == [
            Tick.TAKEN,
            Tick.ENQUEUED,
        ]

        standings = await aside(broker.standings)
        assert {entry: standing.last for entry, standing in standings.items()} == {
            "report": NOON,
            "cleanup": NOON - 60,
            "idle": None,
        }

    async def test_slots_a_microsecond_apart_are_told_apart(self, broker, backdoor):
        await schedule(broker, backdoor, "report")

        assert await aside(broker.tick, [due("report", NOON)]) == [Tick.ENQUEUED]
        assert await aside(broker.tick, [due("report", NOON + 0.000001)]) == [Tick.ENQUEUED]
        assert await aside(broker.tick, [due("report", NOON + 1 / 3)]) == [Tick.ENQUEUED]
        assert await aside(broker.tick, [due("report", NOON + 0.333333)]) == [Tick.TAKEN]

        assert (await aside(broker.standings))["report"].last == NOON + 0.333333

    async def test_nothing_to_tick_is_nothing(self, broker):
        assert await aside(broker.tick, []) == []

    @pytest.mark.parametrize("lock", [mutex(), throttle()], ids=["mutex", "throttle"])
    async def test_a_slot_whose_unique_task_is_under_way_is_over_without_another(self, broker, backdoor, lock):
        await schedule(broker, backdoor, "report")
        await aside(broker.tick, [due("report", NOON, unique=lock)])

        assert await aside(broker.tick, [due("report", NOON + 60, unique=lock)]) == [Tick.REFUSED]
        assert await aside(broker.tick, [due("report", NOON + 60, unique=mutex("other"))]) == [Tick.TAKEN]
        assert (await aside(broker.standings))["report"].last == NOON + 60

        await broker.settle(ALICE, [Ack(await take_one(broker))])
        again = Tick.REFUSED if lock.keep else Tick.ENQUEUED
        assert await aside(broker.tick, [due("report", NOON + 120, unique=lock)]) == [again]

    async def test_of_several_dues_with_one_lock_the_first_takes_it(self, broker, backdoor):
        await schedule(broker, backdoor, "report", "cleanup")
        dues = [
            due("report", NOON, unique=mutex()),
            due("report", NOON + 60, unique=mutex()),
            due("cleanup", NOON, unique=mutex()),
            due("cleanup", NOON + 60, unique=mutex("other")),
        ]

        assert await aside(broker.tick, dues) == [Tick.ENQUEUED, Tick.REFUSED, Tick.REFUSED, Tick.ENQUEUED]

        assert {standing.last for standing in (await aside(broker.standings)).values()} == {NOON + 60}
        assert sorted(ids(await take(broker))) == sorted([dues[0].envelope.id, dues[3].envelope.id])

    async def test_a_slot_that_is_over_takes_no_lock(self, broker, backdoor):
        await schedule(broker, backdoor, "report", "cleanup")
        await aside(broker.tick, [due("report", NOON)])
        dues = [due("report", NOON, unique=mutex()), due("cleanup", NOON, unique=mutex())]

        assert await aside(broker.tick, dues) == [Tick.TAKEN, Tick.ENQUEUED]
        assert await aside(backdoor.locks) == {mutex().key: dues[1].envelope.id}

    @pytest.mark.parametrize("priority", [1, -1])
    async def test_a_tick_enqueues_as_any_push_does(self, broker, backdoor, priority):
        await schedule(broker, backdoor, "report", "later")
        sent = due("report", NOON, priority=priority, queue="images")
        later = due("later", NOON, run_after=in_an_hour(), queue="images")
        await aside(broker.tick, [later, sent])

        [claim] = await take(broker, owner=BOB, queue="images")
        assert claim.envelope == wire.stamped(sent.envelope, attempt=1, crashes=0)
        assert await aside(broker.depth, "images") == Depth(waiting=0, delayed=1, running=1)

    async def test_a_task_that_cannot_be_stored_leaves_all_slots_of_the_call_open(self, broker, backdoor):
        await schedule(broker, backdoor, "report", "cleanup")

        with pytest.raises(TypeError):
            await aside(broker.tick, [due("report", NOON), Due("cleanup", NOON, a_task(object()))])

        assert {standing.last for standing in (await aside(broker.standings)).values()} == {None}
        assert await aside(broker.depth, "mail") == Depth(waiting=0, delayed=0, running=0)
        assert await aside(broker.tick, [due("report", NOON), due("cleanup", NOON)]) == [Tick.ENQUEUED] * 2

    async def test_an_idle_claim_wakes_on_a_tick(self, broker, second_broker, backdoor):
        await schedule(broker, backdoor, "report", "pictures")
        idle = await idle_claim(broker)
        sent = due("report", NOON)

        await aside(second_broker.tick, [due("pictures", NOON, queue="images"), sent])

        assert ids(await asyncio.wait_for(idle, AT_ONCE)) == [sent.envelope.id]

    async def test_more_dues_than_one_step_takes_are_ticked_in_order(self, broker, backdoor):
        names = [f"entry-{number}" for number in range(1200)]
        await schedule(broker, backdoor, *names[:2])
        await aside(broker.register, dict.fromkeys(names, "every minute"))
        slot = in_an_hour()
        await aside(broker.tick, [due(names[700], slot)])
        dues = [due(name, slot) for name in names]

        ticks = await aside(broker.tick, dues)

        assert [number for number, tick in enumerate(ticks) if tick is not Tick.ENQUEUED] == [700]
        claimed = ids(await take(broker, 2000))
        assert claimed[1:] == [each.envelope.id for number, each in enumerate(dues) if number != 700]

    def test_of_many_who_tick_at_once_one_enqueues_each_slot(self, broker, backdoor):
        """Every second entry is unique, and the callers begin at different ends."""
        names = [f"entry-{number}" for number in range(MANY)]
        broker.register(dict.fromkeys(names, "every minute"))
        stores = [backdoor.open() for _ in range(4)]
        slots = [in_an_hour() + minutes * 60 for minutes in range(3)]

        def tick(number):
            """Tick all, in the order of the number."""
            calls = []
            for slot in slots:
                dues = [
                    due(name, slot, unique=mutex(f"{name} at {slot}") if index % 2 else None)
                    for index, name in enumerate(names)
                ]
                calls.append(dues[::-1] if number % 2 else dues)
            return [pair for dues in calls for pair in zip(dues, stores[number].tick(dues), strict=True)]

        pairs = [pair for answer in at_once(tick, 4) for pair in answer]

        enqueued = [each for each, verdict in pairs if verdict is Tick.ENQUEUED]
        assert {verdict for _, verdict in pairs} == {Tick.ENQUEUED, Tick.TAKEN}
        assert sorted((each.entry, each.slot) for each in enqueued) == sorted(
            (name, slot) for name in names for slot in slots
        )
        stored = [task_id for task_id, place in backdoor.places() if place == "waiting"]
        assert sorted(stored) == sorted(each.envelope.id for each in enqueued)

    def test_a_schedule_that_comes_and_goes_meanwhile_doubles_no_slot(self, broker, backdoor):
        names = [f"entry-{number}" for number in range(100)]
        stores = [backdoor.open() for _ in range(4)]
        slots = [in_an_hour() + minutes * 60 for minutes in range(3)]

        def act(number):
            enqueued = []
            for slot in slots:
                stores[number].register(dict.fromkeys(names, "every minute"))
                dues = [due(name, slot) for name in names]
                enqueued += [
                    each for each, tick in zip(dues, stores[number].tick(dues), strict=True) if tick is Tick.ENQUEUED
                ]
                stores[number].register({})
            return enqueued

        enqueued = [(each.entry, each.slot) for answer in at_once(act, 4) for each in answer]

        assert len(enqueued) == len(set(enqueued)) == len(backdoor.places()) >= 100
