"""What counts as submitted and as processed, and where."""

import pytest
from django.test import override_settings
from msgspec.structs import replace

from django_vtasks import observers
from django_vtasks.brokers.base import Ack, Bury, Due, Reclaimed, Release, Retry, TaskFailure, Tick
from django_vtasks.brokers.memory import MemoryBroker
from django_vtasks.metrics import tally
from django_vtasks.publishing import Call, Publisher
from django_vtasks.scheduler.announcer import Announcer
from django_vtasks.scheduler.entries import load
from django_vtasks.worker.timing import ClaimTimer
from tests.app.tasks import add, multiply
from tests.contract.given import a_task
from tests.unit.worker.doubles import a_claim

FAILURE = TaskFailure("builtins.ValueError", "no such address")


class Sender:
    pass


@pytest.fixture(autouse=True)
def fresh():
    cells = (tally.submitted, tally.processed, tally.durations, tally.runs, tally.lateness, tally.claims)
    for family in cells:
        family.clear()
    tally.rescued.clear()
    tally.given_up.clear()


@pytest.fixture
def publisher():
    return Publisher("default", MemoryBroker(), Sender, lambda _: None, validates_once=False)


def submitted():
    return {labels: count.value for labels, count in tally.submitted.items() if count.value}


def processed():
    return {labels: count.value for labels, count in tally.processed.items() if count.value}


class TestSubmitted:
    def test_each_call_counts(self, publisher):
        publisher.publish([(add, (1, 2), {})])
        publisher.publish([(add, (1, 2), {})])

        assert submitted() == {(add.module_path, "default"): 2}

    def test_a_bulk_counts_by_task_and_queue(self, publisher):
        with override_settings(VTASKS_QUEUES=["emails"]):
            emails = add.using(queue_name="emails")
        one: Call = (add, (1, 2), {})
        other: Call = (multiply, (1, 2), {})
        third: Call = (emails, (1, 2), {})
        publisher.publish([one, one, one, other, other, third, one])

        assert submitted() == {
            (add.module_path, "default"): 4,
            (multiply.module_path, "default"): 2,
            (add.module_path, "emails"): 1,
        }

    def test_a_duplicate_does_not(self, publisher):
        unique = add.using(unique=True)
        assert publisher.publish([(unique, (1, 2), {}), (unique, (1, 2), {}), (add, (1, 2), {})])[1] is None
        assert publisher.publish([(unique, (1, 2), {})]) == [None]

        assert submitted() == {(add.module_path, "default"): 2}

    async def test_so_it_is_from_a_loop(self, publisher):
        unique = add.using(unique=True)
        for _ in range(2):
            await publisher.apublish_one(add, (1, 2), {})
            await publisher.apublish_one(unique, (1, 2), {})
            await publisher.apublish([(add, (1, 2), {}), (unique, (1, 2), {})])

        assert submitted() == {(add.module_path, "default"): 5}

    def test_a_slot_of_the_schedule_counts_when_this_scheduler_has_enqueued_it(self, settings_of_schedule):
        entries = load("default")
        announcer = Announcer(entries, "default", Sender, clock=lambda: 1000.25)
        due = Due("tick", 1000.0, replace(a_task(queue="default"), task=add.module_path))
        announcer.tell([due] * 4, [Tick.ENQUEUED, Tick.REFUSED, Tick.TAKEN, Tick.HELD_UP])

        assert submitted() == {(add.module_path, "default"): 1}
        assert tally.lateness[()].read()[-1] == 0.25
        assert sum(tally.lateness[()].read()[:-1]) == 1

    def test_a_slot_ahead_of_this_clock_is_not_late(self, settings_of_schedule):
        announcer = Announcer(load("default"), "default", Sender, clock=lambda: 999.0)
        announcer.tell([Due("tick", 1000.0, replace(a_task(), task=add.module_path))], [Tick.ENQUEUED])

        assert tally.lateness[()].read()[-1] == 0.0


@pytest.fixture
def settings_of_schedule():
    with override_settings(VTASKS_SCHEDULE={"tick": {"task": add.module_path, "schedule": 60, "args": [1, 2]}}):
        yield


class TestProcessed:
    def test_what_the_store_has_taken_in_counts(self):
        claims = [a_claim(task="shop.tasks.sell") for _ in range(4)]
        observers.settled(
            [Ack(claims[0], 0.5), Bury(claims[1], FAILURE, 0.25), Retry(claims[2], 1.0), Release(claims[3])], [True] * 4
        )

        queue = claims[0].envelope.queue
        assert processed() == {
            ("shop.tasks.sell", queue, "success"): 1,
            ("shop.tasks.sell", queue, "failure"): 1,
        }
        assert tally.durations["shop.tasks.sell", queue].read()[-1] == 0.75

    def test_what_was_no_longer_the_owner_s_does_not(self):
        observers.settled([Ack(a_claim(), 0.5), Bury(a_claim(), FAILURE, 0.5)], [False, False])

        assert processed() == {}
        assert tally.durations == {}

    def test_what_could_not_run_has_no_name_and_no_duration(self):
        claims = [a_claim(task=f"nowhere.tasks.task_{number}") for number in range(3)]
        observers.settled([Bury(claim, FAILURE) for claim in claims], [True] * 3)

        assert processed() == {("unknown", claims[0].envelope.queue, "failure"): 3}
        assert tally.durations == {}

    def test_tasks_taken_back_count_by_what_became_of_them(self):
        observers.rescued(Reclaimed(["a", "b"], ["c"]), observers.ACTOR_DIED)
        observers.rescued(Reclaimed([], []), observers.WORKER_VANISHED)

        assert {labels: cell.value for labels, cell in tally.rescued.items()} == {("actor died",): 2}
        assert {labels: cell.value for labels, cell in tally.given_up.items()} == {("actor died",): 1}


class TestClaims:
    """A claim is timed when tasks were waiting for it."""

    @pytest.fixture
    def timer(self):
        return ClaimTimer("mail")

    @staticmethod
    def times():
        return sum(tally.claims[("mail",)].read()[:-1])

    @staticmethod
    def claim(timer, count, room, **fields):
        """Claim tasks that have been enqueued before."""
        claims = [a_claim(**fields) for _ in range(count)]
        timer.begin()
        timer.end(claims, room)

    @pytest.mark.parametrize(
        ("first", "second", "timed"),
        [
            (2, 2, 1),  # a full one, so that more waits
            (2, 1, 1),
            (1, 2, 0),  # the first took all there was: the second has waited
            (2, 0, 0),
        ],
    )
    def test_after_one_that_left_some(self, timer, first, second, timed):
        for count in (first, second):
            self.claim(timer, count, 2)

        assert self.times() == timed

    def test_not_when_its_tasks_came_later(self, timer):
        self.claim(timer, 2, 2)
        self.claim(timer, 2, 2, run_after=1e12)

        assert self.times() == 0

    def test_not_after_one_without_an_answer(self, timer):
        self.claim(timer, 1, 1)
        timer.begin()
        timer.failed()
        self.claim(timer, 1, 1)

        assert self.times() == 0
