"""Each slot is enqueued once, in time, whoever leads and whatever becomes of leaders, stores and clocks."""

import logging
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from django_vtasks.brokers.base import Ack, Owner, Tick
from django_vtasks.errors import BrokerUnavailable
from django_vtasks.schedule import BOUND, Misfire
from django_vtasks.scheduler.agenda import LONGEST_RETRY
from django_vtasks.scheduler.candidate import MOST, EntryState
from django_vtasks.scheduler.entries import read
from django_vtasks.worker.outage import LONGEST_DELAY
from tests.unit.scheduler.stage import LEASE, NOON, Stage, an_entry


@pytest.fixture
def stage():
    return Stage()


def tens(first, last):
    """Return the slots of an entry that is due every ten seconds."""
    return [float(slot) for slot in range(first, last + 1, 10)]


# In order


def test_the_first_start_fires_nothing_and_then_each_slot_comes_in_time(stage):
    stage.candidate(an_entry())

    stage.run(9.9)
    assert stage.slots() == []
    stage.run(25.2)

    assert stage.slots() == tens(10, 30)
    assert all(due.envelope.enqueued_at == due.slot for due, _ in stage.told)


@pytest.mark.parametrize("skew", [0.0, 0.4, -0.4])
def test_the_first_slot_is_not_lost_while_the_store_notes_a_new_entry(stage, skew, monkeypatch):
    def register(entries, register=stage.store.register):
        standings = register(entries)
        stage.now += 0.2
        return standings

    monkeypatch.setattr(stage.store, "register", register)
    stage.now = NOON + 9.9
    stage.skew["north"] = skew
    stage.candidate(an_entry())

    stage.run(15)

    assert stage.slots() == tens(10 if skew <= 0 else 20, 20)


def test_a_leader_sleeps_until_something_is_due(stage):
    leader = stage.candidate(an_entry(schedule=3600))

    pauses = [leader.turn() for _ in range(3)]

    assert pauses == [LEASE / 5] * 3
    stage.now += 3598.5
    leader.turn()
    stage.now = NOON + 3598.5
    assert leader.turn() == 1.5


def test_entries_that_are_due_together_go_in_one_call(stage):
    stage.candidate(*[an_entry(f"entry-{number}", 1) for number in range(1000)])

    stage.run(5.5)

    assert [len(call) for call in stage.store.calls] == [1000] * 5
    assert len(set(stage.store.enqueued)) == 5000
    assert len({due.envelope.id for call in stage.store.calls for due in call}) == 5000


def test_entries_come_in_the_order_of_their_slots(stage):
    stage.candidate(an_entry("three", 3), an_entry("two", 2), an_entry("daily", "0 13 * * *"))

    stage.run(6.5)

    assert [(name, slot - NOON) for name, slot in stage.store.enqueued] == [
        ("two", 2), ("three", 3), ("two", 4), ("three", 6), ("two", 6)
    ]  # fmt: skip


def test_a_leader_without_entries_forgets_those_of_before(stage):
    stage.candidate(an_entry())
    stage.run(10)
    stage.candidate()
    stage.run(30)

    assert stage.store.standings() == {}
    assert stage.slots() == [10]


def test_an_entry_of_the_night_when_clocks_are_set_comes_once(stage):
    stage.now = datetime(2026, 10, 25, tzinfo=UTC).timestamp()
    stage.candidate(an_entry(schedule="30 2 * * *", zone=ZoneInfo("Europe/Berlin")))

    stage.run(7200)

    assert [slot for _, slot in stage.store.enqueued] == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()]


# Several


def test_of_two_candidates_one_enqueues(stage):
    stage.candidate(an_entry())
    stage.candidate(an_entry(), node="south")

    stage.run(60)

    assert stage.slots() == tens(10, 60)
    assert all(tick is Tick.ENQUEUED for _, tick in stage.told)


def test_a_leader_that_vanishes_is_followed_within_the_lease(stage):
    stage.candidate(an_entry(schedule=1))
    stage.candidate(an_entry(schedule=1), node="south")
    stage.run(30)
    stage.stall("north", 1e9)
    stage.run(LEASE)

    slots = stage.slots()
    assert slots[:30] == [float(slot) for slot in range(1, 31)]
    assert slots[-1] == 45
    assert len(slots) == len(set(slots))
    assert slots[30] - slots[29] <= LEASE * 2 / 3 + 1


def test_a_leader_that_resigns_is_followed_at_once(stage):
    first = stage.candidate(an_entry(schedule=60))
    second = stage.candidate(an_entry(schedule=60), node="south")
    stage.run(30.5)
    first.resign()
    stage.stall("north", 1e9)

    stage.run(1.0)

    assert not first.is_leader
    assert second.is_leader


@pytest.mark.parametrize("stall", [0.5, 3.0, 8.0, 9.5, 20.0, 100.0])
def test_a_leader_that_stalls_and_goes_on_doubles_nothing_and_yields_to_who_has_followed(stage, stall):
    north = stage.candidate(an_entry(schedule=1))
    south = stage.candidate(an_entry(schedule=1), node="south")
    stage.run(30.5)

    stage.stall("north", stall)
    stage.run(stall)
    stage.run(30)

    slots = stage.slots()
    assert slots == sorted(set(slots))
    assert slots[-1] == (60.5 + stall) // 1
    assert [north.is_leader, south.is_leader] == ([True, False] if stall < 9 else [False, True])


def test_a_stall_that_ends_before_the_term_does_misses_no_slot(stage):
    stage.candidate(an_entry(schedule=1, misfire=Misfire.SKIP))
    stage.run(30.5)
    stage.stall("north", 8)
    stage.run(10)

    assert stage.slots() == [float(slot) for slot in range(1, 41)]


def test_two_that_believe_to_lead_enqueue_each_slot_once(stage):
    stage.candidate(an_entry())
    stage.run(1)
    stage.store.resign("scheduler", "north")
    stage.candidate(an_entry(), node="south")
    stage.run(11)

    assert stage.slots() == [10]


def test_of_a_slot_that_another_has_enqueued_nobody_is_told_again(stage):
    stage.candidate(an_entry())
    stage.run(1)
    stage.stall("north", 9)
    other = Stage()
    other.now, other.store = stage.now, stage.store
    stage.store.resign("scheduler", "north")
    other.candidate(an_entry(), node="south")
    other.run(9)
    stage.now = other.now
    stage.run(0.1)

    assert [tick for _, tick in other.told] == [Tick.ENQUEUED]
    assert stage.told == []


@pytest.mark.parametrize("seconds", [4, 100])
def test_who_leads_again_registers_again_because_the_other_may_have_had_another_schedule(stage, seconds):
    stage.candidate(an_entry(schedule=60))
    stage.run(1)
    stage.stall("north", seconds)
    stage.store.resign("scheduler", "north")
    south = stage.candidate(an_entry("other", 60), node="south")
    stage.run(seconds - 1)
    south.resign()
    del stage.turn_at["south"]
    stage.run(130)

    assert stage.slots("other") == ([60] if seconds == 100 else [])
    assert stage.slots() == ([120, 180] if seconds == 100 else [60, 120])


# Missed


@pytest.mark.parametrize(
    ("policy", "made_up"),
    [(Misfire.LATEST, [2400.0]), (Misfire.SKIP, []), (Misfire.ALL, [600.0, 1200.0, 1800.0, 2400.0])],
)
def test_slots_without_a_leader_are_made_up_for_as_the_policy_says(stage, policy, made_up):
    stage.candidate(an_entry(schedule=600, misfire=policy))
    stage.run(1)
    stage.stall("north", 1e9)
    stage.run(2500)

    stage.candidate(an_entry(schedule=600, misfire=policy), node="south")
    stage.run(0.1)
    assert stage.slots() == made_up
    stage.run(600)

    assert stage.slots() == [*made_up, 3000]


def test_what_was_missed_comes_in_the_order_of_its_slots(stage):
    entries = [an_entry(name, schedule, misfire=Misfire.ALL) for name, schedule in (("three", 3), ("two", 2))]
    stage.candidate(*entries)
    stage.run(1)
    stage.now += 6
    stage.candidate(*entries)
    stage.run(0)

    assert [(name, slot - NOON) for name, slot in stage.store.enqueued] == [
        ("two", 2), ("three", 3), ("two", 4), ("three", 6), ("two", 6)
    ]  # fmt: skip


def test_a_slot_that_is_late_by_less_than_the_lease_is_enqueued_under_any_policy(stage):
    stage.candidate(an_entry(schedule=60, misfire=Misfire.SKIP))
    stage.run(59)
    stage.stall("north", 1e9)
    stage.candidate(an_entry(schedule=60, misfire=Misfire.SKIP), node="south")

    stage.run(LEASE)

    assert stage.slots() == [60]


def test_of_very_many_missed_slots_the_newest_come_and_the_log_says_how_many_do_not(stage, caplog):
    stage.candidate(an_entry(schedule=1, misfire=Misfire.ALL))
    stage.run(0.5)
    stage.now += 300
    stage.candidate(an_entry(schedule=1, misfire=Misfire.ALL))
    stage.run(0)

    assert stage.slots() == [float(slot) for slot in range(301 - BOUND, 301)]
    assert "Slots were missed while nobody led, and do not run: tick (200)" in caplog.messages


def test_the_log_names_a_few_of_many_entries_that_missed_slots(stage, caplog):
    entries = [an_entry(f"entry-{number}", misfire=Misfire.SKIP) for number in range(1000)]
    stage.candidate(*entries)
    stage.run(0.5)
    stage.now += 25
    stage.candidate(*entries)
    stage.run(0)

    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line.endswith(
        "do not run: entry-0 (1), entry-1 (1), entry-2 (1), entry-3 (1), entry-4 (1) and 995 more entries"
    )


def test_a_changed_timetable_never_fires_the_past(stage):
    stage.candidate(an_entry(schedule=3600))
    stage.run(1)
    stage.now += 3000
    stage.candidate(an_entry(schedule=60))
    stage.run(70)

    assert stage.slots() == [3060]


def test_a_new_entry_beside_old_ones_does_not_fire(stage):
    stage.candidate(an_entry())
    stage.run(1)
    stage.now += 100
    stage.candidate(an_entry(), an_entry("new"))
    stage.run(0.1)

    assert (stage.slots(), stage.slots("new")) == ([100], [])


# Overlap and uniqueness


async def test_without_overlap_a_slot_is_refused_until_the_run_of_the_one_before_has_ended(stage):
    schedule = {"tick": {"task": "tests.app.tasks.forget", "schedule": 10, "overlap": "skip"}}
    stage.candidate(*read(schedule).entries)
    owner = Owner("east", "default#1")
    stage.store.renew("east", 1e9)
    stage.run(30)
    assert [tick for _, tick in stage.told] == [Tick.ENQUEUED, Tick.REFUSED, Tick.REFUSED]

    [claim] = await stage.store.claim(owner, "default", 5)
    await stage.store.settle(owner, [Ack(claim)])
    stage.run(10)

    assert stage.slots() == [10, 40]


# The store


@pytest.mark.parametrize("call", ["lead", "register", "tick"])
def test_slots_that_pass_while_the_store_is_away_are_made_up_for(stage, caplog, call):
    leader = stage.candidate(an_entry(misfire=Misfire.ALL))
    stage.run(15)
    stage.store.trouble = {"lead": BrokerUnavailable("away"), call: BrokerUnavailable("away")}
    stage.run(60)
    assert not leader.is_leader
    stage.store.trouble = {}
    stage.run(LONGEST_DELAY)

    assert stage.slots() == tens(10, 80)
    assert leader.is_leader
    assert sum(bool(record.exc_info) for record in caplog.records) == 1
    assert len(caplog.records) < 40


def test_a_lost_answer_doubles_nothing(stage):
    stage.candidate(an_entry())
    stage.run(9)
    stage.store.lost["tick"] = BrokerUnavailable("no answer")
    stage.run(31)

    assert stage.slots() == tens(10, 40)


def test_a_store_that_fails_and_fails_is_asked_less_and_less(stage):
    candidate = stage.candidate(an_entry())
    stage.store.trouble["lead"] = BrokerUnavailable("away")

    pauses = [candidate.turn() for _ in range(12)]

    assert pauses[0] <= 0.1
    assert LONGEST_DELAY / 2 <= pauses[-1] <= LONGEST_DELAY

    trouble = stage.store.trouble.pop("lead")
    candidate.turn()
    stage.run(LEASE)
    stage.store.trouble["lead"] = trouble
    stage.now += LEASE
    assert candidate.turn() <= 0.1


def test_a_lead_that_cannot_be_given_up_is_no_reason_to_fail(stage, caplog):
    candidate = stage.candidate(an_entry())
    stage.run(1)
    stage.store.trouble["resign"] = BrokerUnavailable("away")

    candidate.resign()

    assert "Could not resign the lead of the schedule: away" in caplog.messages


# One entry's trouble


def test_an_entry_that_is_held_up_costs_the_others_no_slot(stage, caplog):
    leader = stage.candidate(an_entry(schedule=1), an_entry("blocked", 1))
    stage.run(5.5)
    stage.store.held_up = {"blocked"}
    stage.run(60)
    assert stage.slots() == [float(slot) for slot in range(1, 66)]
    assert stage.slots("blocked") == [1, 2, 3, 4, 5]
    assert len([due for due, tick in stage.told if due.entry == "tick" and tick is Tick.ENQUEUED]) == 65
    assert leader.is_leader
    assert caplog.messages == ["Slots are held up, and are tried again: blocked"]

    stage.store.held_up = set()
    stage.run(LONGEST_RETRY)
    assert stage.slots("blocked")[5] > 65
    assert "Slots were missed, and do not run: blocked" in caplog.messages[-1]
    assert stage.slots("blocked")[-1] == stage.slots()[-1] == 70


def test_an_entry_that_is_held_up_is_tried_less_and_less_but_every_few_seconds(stage):
    stage.candidate(an_entry(schedule=1))
    stage.run(0.5)
    stage.store.held_up = {"tick"}
    stage.run(60)

    assert 60 / LONGEST_RETRY <= len(stage.store.calls) <= 60 / LONGEST_RETRY + 6


@pytest.mark.parametrize("policy", list(Misfire))
def test_a_slot_that_was_held_up_runs_when_no_later_one_is_due(stage, policy):
    stage.candidate(an_entry(schedule=600, misfire=policy))
    stage.run(599)
    stage.store.held_up = {"tick"}
    stage.run(300)
    stage.store.held_up = set()
    stage.run(400)

    assert stage.slots() == [600, 1200]


@pytest.mark.parametrize(
    ("policy", "made_up", "dropped"),
    [(Misfire.LATEST, [2400.0], [3]), (Misfire.SKIP, [], [2, 2]), (Misfire.ALL, [600.0, 1200.0, 1800.0, 2400.0], [])],
)
def test_of_slots_that_were_held_up_those_run_that_the_policy_says(stage, caplog, policy, made_up, dropped):
    stage.candidate(an_entry(schedule=600, misfire=policy))
    stage.run(1)
    stage.store.held_up = {"tick"}
    stage.run(2499)
    stage.store.held_up = set()
    stage.run(499)
    assert stage.slots() == made_up
    stage.run(101)

    assert stage.slots() == [*made_up, 3000]
    said = [message for message in caplog.messages if "missed" in message]
    assert said == [f"Slots were missed, and do not run: tick ({count})" for count in dropped]


def test_missed_slots_that_are_held_up_wait_in_their_order(stage):
    stage.candidate(an_entry(schedule=1, misfire=Misfire.ALL))
    stage.run(0.5)
    stage.now += 50
    stage.store.held_up = {"tick"}
    stage.candidate(an_entry(schedule=1, misfire=Misfire.ALL))
    stage.run(10)
    stage.store.held_up = set()
    stage.run(LONGEST_RETRY)

    assert stage.slots() == [float(slot) for slot in range(1, 66)]


def test_a_retry_that_raises_costs_the_others_nothing(stage):
    leader = stage.candidate(an_entry(schedule=1), an_entry("blocked", 3600))
    stage.run(3599)
    stage.store.held_up = {"blocked"}
    tick = stage.store.tick

    def fail(dues):
        if {due.entry for due in dues} == {"blocked"}:
            raise BrokerUnavailable("one queue")
        return tick(dues)

    stage.store.tick = fail
    stage.run(60)
    assert leader.is_leader
    assert len(stage.slots()) == 3659
    stage.store.tick = tick
    stage.store.held_up = set()
    stage.run(LONGEST_RETRY)

    assert stage.slots("blocked") == [3600]


def test_very_many_slots_are_enqueued_in_turns_between_which_the_lead_is_kept(stage, monkeypatch):
    entries = [an_entry(f"entry-{number}", 1, misfire=Misfire.ALL) for number in range(50)]
    stage.candidate(*entries)
    stage.run(0.5)
    stage.now += 60
    leader = stage.candidate(*entries)
    tick, lead, terms = stage.store.tick, stage.store.lead, []

    def slowly(dues):
        stage.now += LEASE / 4
        return tick(dues)

    def note(*args):
        terms.append(sum(map(len, stage.store.calls)))
        return lead(*args)

    stage.store.tick, stage.store.lead = slowly, note
    for _ in range(4):
        assert leader.turn() == 0

    assert max(map(len, stage.store.calls)) == MOST
    assert len(stage.store.enqueued) == len(set(stage.store.enqueued)) > 3 * MOST
    assert terms == [0, MOST, 2 * MOST, 3 * MOST]


def test_slots_that_were_missed_in_the_leaders_own_term_were_not_missed_for_want_of_one(stage, caplog):
    stage.candidate(an_entry(misfire=Misfire.SKIP))
    stage.run(15)
    stage.store.trouble["tick"] = BrokerUnavailable("away")
    stage.run(60)
    stage.store.trouble.clear()
    stage.run(LONGEST_DELAY)

    assert any(message.startswith("Slots were missed, and do not run: tick (") for message in caplog.messages)
    assert not any("while nobody led" in message for message in caplog.messages)


# Clocks


@pytest.mark.parametrize("policy", list(Misfire))
def test_a_clock_that_jumps_ahead_makes_up_for_the_hour_as_the_policy_says(stage, caplog, policy):
    stage.candidate(an_entry(schedule=600, misfire=policy))
    stage.run(100)
    stage.skew["north"] = 3600
    stage.run(3)

    made_up = {Misfire.LATEST: [3600], Misfire.SKIP: [], Misfire.ALL: [600, 1200, 1800, 2400, 3000, 3600]}
    assert stage.slots() == made_up[policy]
    assert "The clock has been set by +3600 s" in caplog.messages


@pytest.mark.parametrize("policy", list(Misfire))
def test_a_clock_that_jumps_back_doubles_nothing_and_waits_no_longer_than_it_must(stage, policy):
    stage.candidate(an_entry(schedule=600, misfire=policy), an_entry("later", "15 12 * * *", misfire=policy))
    stage.run(605)
    stage.skew["north"] = -3600
    stage.run(3600)
    assert stage.slots() == [600]
    stage.run(600)

    assert stage.slots() == [600, 1200]
    assert stage.slots("later") == [900]


def test_after_a_jump_ahead_and_back_no_slot_is_doubled_and_what_was_skipped_comes(stage):
    stage.candidate(an_entry(schedule=600, misfire=Misfire.SKIP))
    stage.run(100)
    stage.skew["north"] = 3700
    stage.run(3)
    assert stage.slots() == []
    stage.skew["north"] = 0
    stage.run(1200)

    assert stage.slots() == [600, 1200]


def test_a_small_step_of_the_clock_is_not_worth_a_word(stage, caplog):
    stage.candidate(an_entry())
    stage.run(15)
    stage.skew["north"] = -0.5
    stage.run(10)
    stage.skew["north"] = 0.5
    stage.run(15)

    assert stage.slots() == tens(10, 40)
    assert caplog.records == []


@pytest.mark.parametrize("skew", [-300.0, -0.5, 0.5, 300.0])
def test_a_new_entry_does_not_fire_at_once_on_a_host_whose_clock_is_wrong(stage, skew):
    stage.skew["north"] = skew
    stage.candidate(an_entry(schedule=60))
    stage.run(29)

    assert stage.slots() == []


def test_a_changed_timetable_does_not_fire_at_once_on_a_host_whose_clock_is_ahead(stage):
    stage.candidate(an_entry(schedule=3600))
    stage.run(1)
    stage.skew["north"] = 300.0
    stage.candidate(an_entry(schedule=60))
    stage.run(29)

    assert stage.slots() == []


def test_a_host_whose_clock_is_behind_does_not_ask_for_slots_before_the_entry_was_known(stage):
    stage.skew["north"] = -300.0
    stage.candidate(an_entry(schedule=60))
    stage.run(300)
    assert stage.store.calls == []
    stage.run(60)

    assert stage.slots() == [60]


def test_hosts_whose_clocks_differ_double_nothing(stage):
    stage.skew = {"north": 300.0, "south": 0.0}
    entries = [an_entry(schedule=60, misfire=Misfire.ALL)]
    for _ in range(3):
        for node, other in (("north", "south"), ("south", "north")):
            stage.candidate(*entries, node=node)
            stage.turn_at.pop(other, None)
            stage.run(200)

    slots = stage.slots()
    assert slots == sorted(set(slots))
    assert slots[-1] >= 1200
    assert slots == [float(slot) for slot in range(int(slots[0]), int(slots[-1]) + 1, 60)]


# What it says of itself


def test_a_candidate_tells_who_leads_and_how_each_entry_stands(stage):
    north = stage.candidate(an_entry(), an_entry("daily", "0 5 * * *"))
    south = stage.candidate(an_entry(), an_entry("daily", "0 5 * * *"), node="south")
    assert (north.state().leader, north.is_leader) == (None, False)
    stage.run(2 * LEASE + 1)

    assert north.state().is_leader
    assert not south.state().is_leader
    assert north.state().leader == south.state().leader == "north"
    assert north.state().entries == {
        "tick": EntryState(NOON + 30, NOON + 40),
        "daily": EntryState(None, NOON + 17 * 3600),
    }
    last, following = south.state().entries["tick"]
    assert last in {NOON + 10, NOON + 20, NOON + 30}
    assert following == last + 10


def test_an_entry_that_is_overdue_is_told_as_such_whether_it_is_held_up_or_the_store_away(stage):
    leader = stage.candidate(an_entry(), an_entry("blocked"), an_entry("daily", "0 5 * * *"))
    stage.run(15)
    stage.store.held_up = {"blocked"}
    stage.run(30)
    assert leader.state().entries["tick"] == EntryState(NOON + 40, NOON + 50)
    assert leader.state().entries["blocked"] == EntryState(NOON + 10, NOON + 20)

    stage.store.trouble = dict.fromkeys(("lead", "tick"), BrokerUnavailable("away"))
    stage.run(60)
    assert not leader.is_leader
    assert leader.state().entries == {
        "tick": EntryState(NOON + 40, NOON + 50),
        "blocked": EntryState(NOON + 10, NOON + 20),
        "daily": EntryState(None, NOON + 17 * 3600),
    }


def test_a_slot_that_the_store_is_busy_with_is_overdue(stage):
    leader = stage.candidate(an_entry())
    stage.run(9)
    seen = []
    tick = stage.store.tick

    def look(dues):
        seen.append(leader.state().entries["tick"].next)
        return tick(dues)

    stage.store.tick = look
    stage.run(3)

    assert seen == [NOON + 10]


def test_next_slots_are_looked_for_of_the_entries_that_are_told_alone(stage):
    leader = stage.candidate(an_entry(), an_entry("other"))
    stage.run(15)

    assert leader.state(1).entries == {"tick": EntryState(NOON + 10, NOON + 20)}


def test_changes_of_the_leader_are_in_the_log_once_each(stage, caplog):
    caplog.set_level(logging.INFO)
    stage.candidate(an_entry())
    stage.candidate(an_entry(), node="south")
    stage.run(30)
    stage.stall("north", 20)
    stage.run(60)

    assert caplog.messages == [
        "north leads the schedule of 1 entries (term 1)",
        "south leads the schedule of 1 entries (term 2)",
        "north leads the schedule no more",
    ]
