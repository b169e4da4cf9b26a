"""Sums over actors that live and have died: whatever order messages come in, nothing goes back."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from django_vtasks.metrics.projects import ProjectFamily
from django_vtasks.metrics.snapshot import Changes, Snapshot
from django_vtasks.metrics.tally import Key, Value
from django_vtasks.metrics.totals import Totals, plus, summed

SOLD = "vtasks_tasks_processed", ("shop.tasks.sell", "default", "success")
TIMES = "vtasks_task_duration_seconds", ("shop.tasks.sell", "default")


def sold(count):
    return Snapshot({SOLD: count})


def family(kind, **values):
    return ProjectFamily(kind, "Help.", "", {("shop", (("kind", name),)): value for name, value in values.items()})


def test_living_actors_add_up():
    totals = Totals()
    totals.note("default#1", 1, sold(3))
    totals.note("default#2", 1, sold(4))

    assert totals.counts() == {SOLD: 7}


def test_a_message_that_comes_twice_or_not_at_all_changes_nothing():
    totals = Totals()
    for count in (1, 5, 5, 9):  # 2, 3, 4 … were lost
        totals.note("default#1", 1, sold(count))

    assert totals.counts() == {SOLD: 9}


def test_what_has_not_changed_need_not_be_said_again():
    totals = Totals()
    totals.note("default#1", 1, Snapshot({SOLD: 3, TIMES: (1, 2, 0.5)}))
    totals.note("default#1", 1, sold(4))

    assert totals.counts() == {SOLD: 4, TIMES: (1, 2, 0.5)}


def test_what_the_dead_have_counted_stays():
    totals = Totals()
    totals.note("default#1", 1, Snapshot({SOLD: 3, TIMES: (1, 2, 0.5)}))
    totals.ended("default#1", 1)
    assert totals.counts() == {SOLD: 3, TIMES: (1, 2, 0.5)}
    totals.note("default#1", 2, Snapshot({SOLD: 1, TIMES: (1, 0, 0.25)}))
    totals.ended("default#1", 2)
    totals.ended("default#1", 2)

    assert totals.counts() == {SOLD: 4, TIMES: (2, 2, 0.75)}


def test_an_actor_and_its_successor_may_live_at_the_same_time():
    totals = Totals()
    totals.note("default#1", 1, sold(10))
    totals.note("default#1", 2, sold(1))
    totals.note("default#1", 1, sold(11))
    totals.ended("default#1", 1)

    assert totals.counts() == {SOLD: 12}


@given(st.lists(st.tuples(st.sampled_from(["count", "die", "say"]), st.integers(0, 3)), max_size=60))
def test_no_sum_ever_goes_back_nor_above_what_was_counted(steps):
    totals, true = Totals(), [0, 0, 0, 0]
    seen: Any = 0
    counts, incarnations = [0, 0, 0, 0], [1, 1, 1, 1]
    for step, actor in steps:
        if step == "count":
            counts[actor] += 1
            true[actor] += 1
        elif step == "say":
            totals.note(f"default#{actor}", incarnations[actor], sold(counts[actor]))
        else:
            totals.ended(f"default#{actor}", incarnations[actor])
            counts[actor] = 0
            incarnations[actor] += 1
        now: Any = totals.counts().get(SOLD, 0)
        assert seen <= now <= sum(true)
        seen = now


class TestTheProjectS:
    def test_counters_add_up_and_outlive_their_actor(self):
        totals = Totals()
        totals.note("default#1", 1, Snapshot(project={"shop": family("counter", book=2.0)}))
        totals.note("default#2", 1, Snapshot(project={"shop": family("counter", book=1.0, pen=5.0)}))
        totals.ended("default#1", 1)

        assert totals.project() == {"shop": family("counter", book=3.0, pen=5.0)}

    def test_gauges_say_whose_they_are_and_go_with_their_actor(self):
        totals = Totals()
        for name in ("default#1", "default#2"):
            totals.note(name, 1, Snapshot(project={"stock": family("gauge", book=2.0)}))
        samples = totals.project()["stock"].samples
        assert samples == {
            ("shop", (("kind", "book"), ("actor", "default#1"))): 2.0,
            ("shop", (("kind", "book"), ("actor", "default#2"))): 2.0,
        }
        totals.ended("default#1", 1)
        totals.ended("default#2", 1)

        assert totals.project() == {}

    def test_a_gauge_that_has_an_actor_of_its_own_keeps_it(self):
        totals = Totals()
        mine = ProjectFamily("gauge", "Help.", "", {("film", (("actor", "Chaplin"),)): 1.0})
        totals.note("default#1", 1, Snapshot(project={"film": mine}))

        assert totals.project()["film"].samples == {
            ("film", (("actor", "Chaplin"), ("vtasks_actor", "default#1"))): 1.0
        }


def test_histograms_add_up_bucket_by_bucket():
    assert plus((1, 2, 0.5), (10, 20, 5.0)) == (11, 22, 5.5)
    assert summed([{SOLD: 1}, {SOLD: 2, TIMES: (1, 0.5)}, {TIMES: (1, 0.5)}]) == {SOLD: 3, TIMES: (2, 1.0)}


def test_changes_are_what_has_not_been_taken():
    now: dict[Key, Value] = {SOLD: 1}
    changes = Changes(lambda: dict(now))

    assert changes.take() == {SOLD: 1}
    assert changes.take() == {}
    assert changes.take(everything=True) == {SOLD: 1}
    now[SOLD] = 2
    now[TIMES] = (1, 0.5)
    assert changes.take() == {SOLD: 2, TIMES: (1, 0.5)}
