"""When a node counts as vanished."""

from hypothesis import given
from hypothesis import strategies as st

from django_vtasks.worker.lapses import Lapses
from django_vtasks.worker.lease import EVERY, GRACE, LASTS

LEASE = 15.0
A_CALL = 0.001


def test_a_node_has_vanished_when_it_had_lapsed_at_a_look_long_enough_ago():
    lapses = Lapses(5.0)

    assert lapses.vanished({"north"}, 0.0) == set()
    assert lapses.vanished({"north", "south"}, 4.9) == set()
    assert lapses.vanished({"north", "south"}, 5.0) == {"north"}


def test_a_node_that_has_renewed_meanwhile_is_given_its_time_anew():
    lapses = Lapses(5.0)
    lapses.vanished({"north"}, 0.0)
    lapses.vanished(set(), 3.0)

    assert lapses.vanished({"north"}, 6.0) == set()


def test_a_look_that_failed_gives_everybody_its_time_anew():
    lapses = Lapses(5.0)
    lapses.vanished({"north"}, 0.0)
    lapses.forget()

    assert lapses.vanished({"north"}, 20.0) == set()
    assert lapses.vanished({"north"}, 25.0) == {"north"}


@given(st.floats(0, LEASE * EVERY))
def test_a_node_that_dies_is_taken_over_within_the_lease(first_look):
    lapses, now = Lapses(GRACE * LEASE), first_look
    while not lapses.vanished({"dead"} if now >= LASTS * LEASE else set(), now):
        now += EVERY * LEASE + A_CALL

    assert now <= LEASE + 3 * A_CALL
