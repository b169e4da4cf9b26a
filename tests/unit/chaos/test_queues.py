"""What became of the calls to one queue, as the ledger tells it."""

import pytest

from load_tests.chaos import queues
from load_tests.chaos.ledger import Event

FEEDER, WORKER = 1, 2


def accepted(key, at, queue="a", delay=0.0):
    return Event("accept", key, at, FEEDER, f"id-{key}", f"{queue} {delay:g}")


def started(key, at):
    return Event("start", key, at, WORKER)


def ended(key, at):
    return Event("end", key, at, WORKER)


def test_what_was_accepted_is_told_apart_by_queue_and_time():
    events = [accepted("x", 1.0), accepted("y", 2.0, "b"), accepted("z", 3.0)]

    assert queues.accepted(events, "a", 0.0, 3.0) == {"x": 1.0}


def test_a_call_that_no_feeder_made_belongs_to_no_queue():
    assert queues.accepted([Event("accept", "x", 1.0, FEEDER, "id")], "a") == {}


def test_the_ends_of_a_queue_are_counted_whenever_its_calls_were_accepted():
    events = [accepted("x", 1.0), accepted("y", 1.0, "b"), ended("x", 5.0), ended("y", 5.0), ended("x", 9.0)]

    assert queues.ended(events, "a", 4.0, 6.0) == 1


def test_a_wait_is_from_the_moment_at_which_a_call_is_due_to_its_first_start():
    events = [
        accepted("x", 1.0, delay=0.5),
        accepted("y", 1.0),
        started("y", 3.0),
        started("x", 4.0),
        started("x", 9.0),
    ]

    assert queues.waits(events, "a") == [2.0, 2.5]


def test_a_call_that_has_not_started_waits_to_the_end():
    assert queues.waits([accepted("x", 1.0), accepted("y", 6.0)], "a") == [0.0, 5.0]


def test_the_waits_of_another_queue_are_of_no_interest():
    assert queues.waits([accepted("x", 1.0, "b"), started("x", 3.0)], "a") == []


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        (Event("error", "x", 1.2, FEEDER), 1),
        (Event("accept", "x", 2.0, FEEDER), 1),
        (Event("same", "x", 2.0, FEEDER), 1),
        (Event("accept", "x", 1.2, FEEDER), 0),
    ],
)
def test_an_enqueue_is_held_up_that_fails_or_takes_long(answer, count):
    assert queues.held_up([Event("try", "x", 1.0, FEEDER), answer], 0.0, 9.0) == count


def test_an_enqueue_that_was_tried_at_another_time_is_not_held_up():
    assert queues.held_up([Event("try", "x", 1.0, FEEDER), Event("error", "x", 5.0, FEEDER)], 2.0, 9.0) == 0


def test_an_enqueue_takes_as_long_as_nobody_knows_what_became_of_it():
    tries = [Event("try", key, 1.0, FEEDER) for key in ("x", "y", "z")]

    assert queues.took([*tries, accepted("x", 2.0), Event("error", "y", 4.0, FEEDER), started("z", 9.0)]) == {
        "x": 1.0,
        "y": 3.0,
    }


def test_a_share_of_waits_is_what_so_many_do_not_exceed():
    assert queues.share([float(number) for number in range(100)], 0.99) == 99.0
    assert queues.share([7.0], 0.99) == 7.0
    assert queues.share([], 0.99) == 0.0
