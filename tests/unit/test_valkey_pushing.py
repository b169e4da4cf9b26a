"""How many requests tasks take, and which of them each adds."""

import pytest

from django_vtasks import wire
from django_vtasks.brokers.valkey import pushing
from django_vtasks.brokers.valkey.keys import Keys
from django_vtasks.brokers.valkey.pushing import AT_ONCE, pushes
from tests.contract.given import a_task, mutex

KEYS = Keys("{vt}")


def requests(*tasks):
    """Return the places of the tasks that each request adds, and whether it does without a script."""
    return [(list(push.places), push.is_plain) for push in pushes(KEYS, tasks, wire.encode_all(tasks))]


def test_nothing_takes_none():
    assert requests() == []


def test_plain_tasks_of_a_queue_take_one():
    assert requests(*[a_task(queue="mail") for _ in range(3)]) == [([0, 1, 2], True)]


def test_plain_tasks_that_alternate_between_queues_take_one_for_each():
    assert requests(*[a_task(queue=queue) for queue in ("mail", "images", "mail", "images", "mail")]) == [
        ([0, 2, 4], True),
        ([1, 3], True),
    ]


def test_tasks_of_other_kinds_and_what_is_between_them_take_one_and_keep_their_order():
    tasks = [a_task(), a_task(priority=1), a_task(queue="images"), a_task(unique=mutex()), a_task()]

    assert requests(*tasks) == [([0, 1, 2, 3, 4], False)]


def test_very_many_take_several():
    found = requests(*[a_task() for _ in range(2 * AT_ONCE + 1)])

    assert [len(places) for places, _ in found] == [AT_ONCE, AT_ONCE, 1]
    assert [place for places, _ in found for place in places] == list(range(2 * AT_ONCE + 1))


@pytest.mark.parametrize("options", [{}, {"priority": 1}], ids=["plain", "of another kind"])
def test_those_that_are_too_large_together_go_one_by_one(options, monkeypatch):
    monkeypatch.setattr(pushing, "BYTES_AT_ONCE", 1000)

    assert requests(*[a_task("x" * 600, **options) for _ in range(2)]) == [([0], not options), ([1], not options)]
