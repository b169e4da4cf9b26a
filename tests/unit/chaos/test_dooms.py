"""How often the doomed take actors along, and for how long these live on."""

from load_tests.chaos import dooms
from load_tests.chaos.ledger import Event

ACTOR, OTHER = 7, 8


def doom(task_id, at, pid=ACTOR):
    return Event("doom", "", at, pid, task_id, "blocked")


def test_each_task_is_counted_by_itself():
    events = [doom("x", 1.0), doom("y", 2.0), doom("x", 3.0, OTHER), Event("start", "k", 4.0, ACTOR, "x")]

    assert dooms.times(events) == {"x": 2, "y": 1}


def test_an_actor_lives_until_it_is_seen_to_be_gone():
    lives = dooms.Lives()
    lives.look([doom("x", 1.0)], 3.0, lambda _: False)
    lives.look([doom("x", 1.0)], 5.0, lambda _: True)
    lives.look([doom("x", 1.0)], 9.0, lambda _: True)

    assert lives.seconds == {ACTOR: 4.0}


def test_one_that_is_still_there_lives_up_to_now():
    lives = dooms.Lives()
    lives.look([doom("x", 1.0), doom("y", 2.0, OTHER)], 13.0, lambda pid: pid == OTHER)

    assert lives.longest == 12.0


def test_it_is_the_first_doom_in_an_actor_that_counts():
    lives = dooms.Lives()
    lives.look([doom("x", 1.0), doom("y", 4.0)], 5.0, lambda _: True)

    assert lives.seconds == {ACTOR: 4.0}


def test_without_doom_nobody_lives_long():
    assert dooms.Lives().longest == 0.0
