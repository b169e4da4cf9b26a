"""Who of a fleet tells what stands in the store, and until when."""

import time

import pytest
from msgspec.structs import replace

from django_vtasks.brokers.base import Depth
from django_vtasks.errors import BrokerUnavailable
from django_vtasks.topology.reporter import ROLE, Reporter
from tests.contract.given import a_task
from tests.unit.topology.doubles import Clock
from tests.unit.worker.doubles import TroubledBroker

TTL = 15.0
DEPTH = "vtasks_queue_depth", ("mail",)
REPORTS = "vtasks_reporter", ()


class Store(TroubledBroker):
    """Leads by the clock of the test, and may be silent."""

    def __init__(self, clock):
        super().__init__()
        self._time = clock
        self._term = None, 0.0
        self.is_silent = False

    def lead(self, role, node, ttl):
        assert role == ROLE
        holder, until = self._term
        if self._time() < until and holder != node:
            return None
        self._term = node, self._time() + ttl
        return 1

    def resign(self, role, node):
        if self._term[0] == node:
            self._term = None, 0.0

    def glance(self, queues):
        if self.is_silent:
            raise BrokerUnavailable("silence")
        return {queue: Depth(waiting=len(queue), delayed=1, running=0) for queue in queues}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return Store(clock)


@pytest.fixture
def reporter(store, clock):
    return lambda node="north", **options: Reporter(store, node, TTL, ["mail"], clock=clock, **options)


def test_the_first_tells_and_the_others_only_that_they_do_not(reporter):
    first, second = reporter("north"), reporter("south")
    first.turn()
    second.turn()

    assert first.values() == {
        REPORTS: 1,
        DEPTH: 4,
        ("vtasks_queue_delayed_tasks", ("mail",)): 1,
        ("vtasks_queue_oldest_seconds", ("mail",)): 0.0,
        ("vtasks_failed_tasks", ()): 0,
        ("vtasks_failed_evictions", ()): 0,
    }
    assert second.values() == {REPORTS: 0}


def test_what_has_been_seen_is_told_until_the_term_is_over(reporter, store, clock):
    first, second = reporter("north"), reporter("south")
    first.turn()
    store.is_silent = True
    clock.now += TTL - 0.1
    assert first.values()[DEPTH] == 4
    clock.now += 0.1
    assert first.values() == {REPORTS: 0}
    store.is_silent = False
    second.turn()
    first.turn()

    assert second.values()[DEPTH] == 4
    assert first.values() == {REPORTS: 0}


def test_a_store_that_is_silent_after_the_lead_leaves_the_old_term(reporter, store, clock):
    first = reporter()
    first.turn()
    store.is_silent = True
    clock.now += TTL / 3
    with pytest.raises(BrokerUnavailable):
        first.turn()
    clock.now += TTL * 2 / 3 - 0.1
    assert first.values()[REPORTS] == 1
    clock.now += 0.1
    assert first.values() == {REPORTS: 0}


def test_who_is_not_wanted_any_more_lets_another_lead_at_once(reporter):
    wanted = [True]
    first, second = reporter("north", is_wanted=lambda: wanted[0]), reporter("south")
    first.turn()
    wanted[0] = False
    first.turn()
    second.turn()

    assert first.values() == {REPORTS: 0}
    assert second.values()[REPORTS] == 1


def test_its_thread_resigns_at_the_end(reporter, store):
    first, second = reporter("north"), reporter("south")
    first.start()
    first.join()
    second.turn()

    assert second.values()[REPORTS] == 1
    first.join()  # once more does no harm


def test_one_that_was_never_started_may_be_ended(reporter):
    reporter().join()


async def test_the_age_of_the_oldest_is_the_store_s(reporter, store):
    await store.apush([replace(a_task(), enqueued_at=time.time() - 100.0)])
    first = reporter()
    first.turn()

    assert first.values()["vtasks_queue_oldest_seconds", ("mail",)] == pytest.approx(100.0, abs=10.0)
