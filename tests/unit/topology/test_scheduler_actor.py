"""The scheduler's actor: what it tells, and that it ends in time, however silent the store is."""

import asyncio
import threading
import time

import pytest
from django.test import override_settings

from django_vtasks.scheduler.candidate import ROLE
from django_vtasks.topology import scheduler_actor
from django_vtasks.topology.plan import backend_with_broker
from django_vtasks.topology.scheduler_actor import SchedulerActor, SchedulerDuty
from tests.unit.scheduler.stage import Store
from tests.unit.worker.doubles import soon

SCHEDULE = {
    "tick": {"task": "tests.app.tasks.add", "schedule": 0.05},
    "tock": {"task": "tests.app.tasks.add", "schedule": 3600},
}


class Surroundings:
    """What the actor may say, kept."""

    def __init__(self):
        self.failures = []

    def fail(self, error):
        self.failures.append(error)


@pytest.fixture
def store(monkeypatch):
    store = Store(time.time)
    monkeypatch.setattr(type(backend_with_broker("default")), "broker", store)
    return store


@pytest.fixture
def context():
    return Surroundings()


@pytest.fixture
async def actor(store, context, monkeypatch):
    monkeypatch.setattr(scheduler_actor, "LOOK_EVERY", 0.0)
    actor = SchedulerActor(
        SchedulerDuty(backend="default", node="north", lease=15.0, own_process=False, log_level=None)
    )
    with override_settings(VTASKS_SCHEDULE=SCHEDULE):
        await actor.on_start(context)
    yield actor
    await actor.on_stop(10.0, asyncio.Event())


async def test_it_enqueues_what_is_due_and_tells_how_each_entry_stands(store, actor):
    await soon(lambda: len(store.enqueued) >= 3)
    told = actor.vitals()

    assert (told["leader"], told["leads"]) == ("north", True)
    assert told["entries"].keys() == {"tick", "tock"}
    assert told["entries"]["tick"]["last"] < told["entries"]["tick"]["next"]
    assert told["entries"]["tock"]["last"] is None


async def test_it_tells_of_no_more_entries_than_a_page_can_bear(actor, monkeypatch):
    monkeypatch.setattr(scheduler_actor, "MOST_TOLD", 1)

    assert len(actor.vitals()["entries"]) == 1


async def test_what_it_tells_may_be_old_by_some_seconds(store, actor, monkeypatch):
    await soon(lambda: store.enqueued)
    monkeypatch.setattr(scheduler_actor, "LOOK_EVERY", 3600.0)
    told = actor.vitals()
    count = len(store.enqueued)
    await soon(lambda: len(store.enqueued) > count)

    assert actor.vitals() is told


def test_one_that_has_not_started_tells_nothing_and_stops():
    actor = SchedulerActor(
        SchedulerDuty(backend="default", node="north", lease=15.0, own_process=False, log_level=None)
    )

    assert actor.vitals() == {}
    asyncio.run(asyncio.wait_for(actor.on_stop(10.0, asyncio.Event()), 1))


async def test_stopped_it_gives_up_the_lead(store, actor):
    await soon(lambda: store.leader(ROLE) == "north")
    await actor.on_stop(10.0, asyncio.Event())

    assert store.leader(ROLE) is None


@pytest.mark.parametrize("hurried", ["from the first", "later"])
async def test_told_to_hurry_it_does_not_wait_for_a_silent_store(store, actor, monkeypatch, hurried):
    answer, asked = threading.Event(), threading.Event()

    def tick(dues):
        asked.set()
        answer.wait(30)
        return Store.tick(store, dues)

    monkeypatch.setattr(store, "tick", tick)
    await soon(asked.is_set)
    hurry = asyncio.Event()
    if hurried == "from the first":
        hurry.set()
    began = time.monotonic()
    stopping = asyncio.create_task(actor.on_stop(20.0, hurry))
    try:
        if hurried == "later":
            await soon(lambda: time.monotonic() > began + 0.1)
            assert not stopping.done()
            hurry.set()
        await stopping
        assert time.monotonic() - began < 2.0
    finally:
        answer.set()


async def test_what_ends_its_turns_ends_the_actor(store, context, actor, monkeypatch):
    class Bug(BaseException):
        pass

    def lead(*arguments):
        raise Bug

    monkeypatch.setattr(store, "tick", lead)
    await soon(lambda: context.failures)

    assert isinstance(context.failures[0], Bug)
