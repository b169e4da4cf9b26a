"""Which slots of a schedule became tasks, as the ledger tells it."""

from load_tests.chaos import slots
from load_tests.chaos.ledger import Event


def made(task_id, slot, at=0.0, entry="tick"):
    return Event("slot", entry, at, 1, task_id, repr(slot))


def ran(task_id, entry="tick"):
    return Event("start", f"{entry} {task_id}", 9.0, 2, task_id)


def test_each_slot_whose_task_has_run_is_told_with_the_moment_of_its_task():
    events = [made("a", 0.2, 1.0), made("b", 0.4, 2.0), ran("a"), ran("b")]

    assert slots.of_entry(events, "tick") == slots.Slots({0.2: 1.0, 0.4: 2.0}, [], [])


def test_a_slot_of_which_two_tasks_have_run_is_doubled():
    events = [made("a", 0.2), made("b", 0.2), made("c", 0.4), ran("a"), ran("b"), ran("c")]

    assert slots.of_entry(events, "tick").doubled == [0.2]


def test_a_task_that_was_made_again_and_one_that_ran_again_are_no_second_task_of_a_slot():
    events = [made("a", 0.2), made("b", 0.2), ran("b"), ran("b")]

    assert slots.of_entry(events, "tick").doubled == []


def test_a_task_that_no_scheduler_has_made_is_told():
    assert slots.of_entry([made("a", 0.2), ran("a"), ran("x")], "tick").unknown == ["x"]


def test_what_other_entries_have_made_is_of_no_interest():
    events = [made("a", 0.2), made("b", 0.2, entry="tock"), ran("a"), ran("b", "tock")]

    assert slots.of_entry(events, "tick") == slots.Slots({0.2: 0.0}, [], [])
