"""From when on an entry of a schedule is due, and what becomes of one that changes or goes."""

import time

import pytest

from django_vtasks.brokers.base import Standing, Tick
from tests.contract.given import NOON, due, in_an_hour
from tests.contract.steps import schedule
from tests.contract.threads import aside, at_once

A_MOMENT = 0.1
"""Seconds by which the store's clock may be apart from that of the test."""


class Registering:
    async def test_before_anything_is_registered_nothing_stands(self, broker):
        assert await aside(broker.standings) == {}

    async def test_a_new_entry_is_due_from_now_on_by_the_stores_clock(self, broker):
        before = time.time()
        standings = await aside(broker.register, {"report": "hourly", "cleanup": "daily"})
        after = time.time()

        assert standings.keys() == {"report", "cleanup"}
        for standing in standings.values():
            assert before - A_MOMENT <= standing.since <= after + A_MOMENT
            assert standing.last is None

    async def test_how_an_entry_stands_can_be_read(self, broker, second_broker):
        registered = await aside(broker.register, {"report": "hourly", "cleanup": "daily"})

        assert await aside(second_broker.standings) == registered

    async def test_an_entry_that_is_registered_again_stands_as_before(self, broker, second_broker, backdoor):
        await schedule(broker, backdoor, "report")
        await aside(broker.tick, [due("report", NOON)])
        before = await aside(broker.standings)

        again = await aside(second_broker.register, {"report": "every minute"})

        assert again == before
        assert again["report"].since < NOON == again["report"].last

    async def test_an_entry_with_another_timetable_is_due_from_now_on(self, broker, backdoor):
        await schedule(broker, backdoor, "report", "cleanup")
        await aside(broker.tick, [due("report", NOON)])
        before = time.time()

        standings = await aside(broker.register, {"report": "hourly", "cleanup": "every minute"})

        assert standings["report"].since >= before - A_MOMENT
        assert standings["report"].last == NOON
        assert standings["cleanup"].since < NOON
        assert await aside(broker.tick, [due("report", NOON + 60)]) == [Tick.TAKEN]

    async def test_an_entry_that_is_not_named_is_forgotten(self, broker, backdoor):
        await schedule(broker, backdoor, "report", "cleanup")
        await aside(broker.tick, [due("report", NOON), due("cleanup", NOON)])

        assert (await aside(broker.register, {"cleanup": "every minute"})).keys() == {"cleanup"}

        assert (await aside(broker.standings)).keys() == {"cleanup"}
        assert await aside(broker.tick, [due("report", in_an_hour())]) == [Tick.TAKEN]

    async def test_an_entry_that_comes_back_is_new(self, broker, backdoor):
        await schedule(broker, backdoor, "report")
        await aside(broker.tick, [due("report", NOON)])
        await aside(broker.register, {})
        before = time.time()

        standings = await aside(broker.register, {"report": "every minute"})

        assert standings["report"].since >= before - A_MOMENT
        assert standings["report"].last is None

    async def test_a_slot_ahead_of_the_stores_clock_is_not_enqueued_again_when_its_entry_has_been_away(self, broker):
        """A leader whose clock is ahead may tick it before a deployment that does not know the entry yet."""
        slot = in_an_hour()
        await aside(broker.register, {"report": "hourly"})
        assert await aside(broker.tick, [due("report", slot)]) == [Tick.ENQUEUED]

        assert await aside(broker.register, {}) == {}
        assert await aside(broker.standings) == {}
        assert await aside(broker.tick, [due("report", slot + 60)]) == [Tick.TAKEN]
        await aside(broker.register, {"report": "hourly"})

        assert await aside(broker.tick, [due("report", slot), due("report", slot + 60)]) == [Tick.TAKEN, Tick.ENQUEUED]

    @pytest.mark.parametrize(
        "timetable",
        ["", "*/5 8-18 * * mon-fri Europe/Berlin", "1 2", "two\nlines", "Grüße 💥", "0," * 500],
        ids=["empty", "cron", "numbers", "two lines", "unicode", "long"],
    )
    async def test_a_timetable_may_be_any_text(self, broker, backdoor, timetable):
        await aside(broker.register, {"report": timetable})
        await aside(backdoor.backdate, "report")

        assert (await aside(broker.register, {"report": timetable}))["report"].since < NOON
        assert (await aside(broker.register, {"report": timetable + "x"}))["report"].since > NOON

    async def test_names_that_differ_in_case_are_different_entries(self, broker):
        names = {"report", "Report", "report:daily", "Bericht für 💥", "r" * 200}
        await aside(broker.register, dict.fromkeys(names, "hourly"))

        slot = float(round(in_an_hour()))
        assert await aside(broker.tick, [due(name, slot) for name in names]) == [Tick.ENQUEUED] * 5
        standings = await aside(broker.standings)
        assert {name: standing.last for name, standing in standings.items()} == dict.fromkeys(names, slot)

    def test_many_who_register_at_once_agree(self, broker, backdoor):
        stores = [backdoor.open() for _ in range(4)]
        entries = {f"entry-{number}": "hourly" for number in range(300)}

        answers = at_once(lambda number: stores[number].register(entries), 4)

        standings = broker.standings()
        assert standings.keys() == entries.keys()
        for answer in answers:
            assert answer.keys() == entries.keys()
            for name, standing in answer.items():
                assert standing.since == pytest.approx(standings[name].since, abs=10)

    def test_of_two_schedules_that_are_registered_at_once_one_stands(self, broker, backdoor):
        stores = [backdoor.open() for _ in range(4)]
        schedules = [{f"{name}-{number}": "hourly" for number in range(50)} for name in ("old", "new")]

        for _ in range(5):
            at_once(lambda number: stores[number].register(schedules[number % 2]), 4)
            assert all(isinstance(standing, Standing) for standing in broker.standings().values())

        broker.register(schedules[1])
        assert broker.standings().keys() == schedules[1].keys()
