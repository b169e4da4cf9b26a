"""When a burst is over."""

import pytest

from django_vtasks.topology.burst import BurstWatch
from django_vtasks.topology.queue_actor import Idle

NAMES = ("default#1", "mail#1")


@pytest.fixture
def watch():
    return BurstWatch()


def says(watch, taken, rounds, names=NAMES):
    for name in names:
        watch.note(name, Idle(taken, rounds))


def test_it_is_not_before_every_actor_has_spoken(watch):
    says(watch, 0, 5, NAMES[:1])
    assert not watch.is_over(NAMES)
    says(watch, 0, 50, NAMES[:1])

    assert not watch.is_over(NAMES)


def test_it_is_when_all_were_idle_and_each_found_nothing_twice_more(watch):
    says(watch, 3, 1)
    assert not watch.is_over(NAMES)
    says(watch, 3, 2)
    assert not watch.is_over(NAMES)
    says(watch, 3, 3)

    assert watch.is_over(NAMES)


def test_one_that_looks_faster_does_not_answer_for_the_others(watch):
    says(watch, 3, 1)
    watch.is_over(NAMES)
    says(watch, 3, 100, NAMES[:1])

    assert not watch.is_over(NAMES)


def test_a_task_that_somebody_took_meanwhile_begins_it_anew(watch):
    says(watch, 3, 1)
    watch.is_over(NAMES)
    says(watch, 4, 9, NAMES[:1])  # took one, ended it, and is idle again
    says(watch, 3, 9, NAMES[1:])
    assert not watch.is_over(NAMES)
    says(watch, 4, 10, NAMES[:1])
    says(watch, 3, 10, NAMES[1:])
    assert not watch.is_over(NAMES)
    says(watch, 4, 11, NAMES[:1])
    says(watch, 3, 11, NAMES[1:])

    assert watch.is_over(NAMES)


def test_one_that_works_again_begins_it_anew(watch):
    says(watch, 3, 1)
    watch.is_over(NAMES)
    watch.note(NAMES[0], Idle(4, 0))
    assert not watch.is_over(NAMES)
    watch.note(NAMES[0], Idle(4, 3))
    watch.note(NAMES[1], Idle(3, 3))

    assert not watch.is_over(NAMES)


def test_the_successor_of_one_that_is_gone_speaks_for_itself(watch):
    says(watch, 3, 1)
    watch.is_over(NAMES)
    watch.forget(NAMES[0])
    says(watch, 3, 9, NAMES[1:])
    assert not watch.is_over(NAMES)
    watch.note(NAMES[0], Idle(0, 9))
    assert not watch.is_over(NAMES)
    watch.note(NAMES[0], Idle(0, 11))
    watch.note(NAMES[1], Idle(3, 11))

    assert watch.is_over(NAMES)


def test_an_actor_that_comes_later_is_waited_for(watch):
    says(watch, 3, 1)
    watch.is_over(NAMES)
    says(watch, 3, 9)
    assert not watch.is_over([*NAMES, "mail (suspects)"])

    watch.note("mail (suspects)", Idle(0, 2))
    assert not watch.is_over([*NAMES, "mail (suspects)"])
    says(watch, 3, 11)
    watch.note("mail (suspects)", Idle(0, 4))
    assert watch.is_over([*NAMES, "mail (suspects)"])


def test_an_actor_that_has_ended_for_good_is_not_waited_for(watch):
    says(watch, 3, 1, [*NAMES, "mail (suspects)"])
    watch.is_over([*NAMES, "mail (suspects)"])
    watch.forget("mail (suspects)")
    says(watch, 3, 3)
    assert not watch.is_over(NAMES)
    says(watch, 3, 5)

    assert watch.is_over(NAMES)
