"""The scheduler runs beside the loop until it is stopped, and then resigns."""

import asyncio
import threading
import time

import pytest

from django_vtasks.scheduler.candidate import ROLE
from django_vtasks.scheduler.scheduler import Scheduler
from tests.unit.scheduler.stage import Store, an_entry
from tests.unit.worker.doubles import PATIENCE, soon


@pytest.fixture
def store():
    return Store(time.time)


@pytest.fixture
async def start(store):
    """Start schedulers, and stop those that the test leaves."""
    running = []

    async def start(*entries, node="north", lease=15.0):
        scheduler = Scheduler(store, entries, node=node, lease=lease, alias="default", sender=Store)
        running.append((scheduler, asyncio.create_task(scheduler.run())))
        return running[-1]

    yield start
    for scheduler, _ in running:
        scheduler.stop()
    await asyncio.wait_for(asyncio.gather(*[task for _, task in running], return_exceptions=True), PATIENCE)


async def test_it_enqueues_in_time_and_says_so(store, start):
    scheduler, _ = await start(an_entry(schedule=0.05))

    await soon(lambda: len(store.enqueued) >= 5)

    slots = [slot for _, slot in store.enqueued]
    assert slots == sorted(set(slots))
    assert scheduler.is_leader
    assert scheduler.state().leader == "north"
    assert scheduler.state().entries["tick"].last >= slots[4]


async def test_it_calls_the_store_on_one_thread_beside_the_loop(store, start):
    threads: set[int] = set()
    store.trouble = Trap(threads)

    await start(an_entry(schedule=0.05))
    await soon(lambda: len(store.enqueued) >= 3)

    assert len(threads) == 1
    assert threading.get_ident() not in threads


class Trap(dict):
    """Notes who asks whether there is trouble; there is none."""

    def __init__(self, threads):
        super().__init__()
        self._threads = threads

    def get(self, name, default=None):
        self._threads.add(threading.get_ident())
        return default


async def test_stopped_it_resigns_and_another_follows_at_once(store, start):
    first, running = await start()
    await soon(lambda: first.is_leader)
    second, _ = await start(node="south", lease=1.5)

    first.stop()
    await asyncio.wait_for(running, PATIENCE)

    assert not first.is_leader
    await soon(lambda: second.is_leader)


async def test_stopped_while_the_store_does_not_answer_it_ends_when_the_call_does(store, start):
    gate = threading.Event()
    store.trouble = Gate(gate)
    scheduler, running = await start()
    await soon(lambda: store.trouble.asked)

    scheduler.stop()
    done, _ = await asyncio.wait({running}, timeout=0.01)
    assert not done
    gate.set()
    await asyncio.wait_for(running, PATIENCE)

    assert store.leader(ROLE) is None


class Gate(dict):
    """Holds up whoever asks whether there is trouble."""

    def __init__(self, gate):
        super().__init__()
        self._gate = gate
        self.asked = False

    def get(self, name, default=None):
        self.asked = True
        self._gate.wait(PATIENCE)
        return default


async def test_cancelled_it_resigns_too(store, start):
    scheduler, running = await start()
    await soon(lambda: scheduler.is_leader)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert store.leader(ROLE) is None


async def test_stopped_before_it_runs_it_does_nothing(store):
    scheduler = Scheduler(store, [], node="north", lease=15.0, alias="default", sender=Store)
    scheduler.stop()

    await asyncio.wait_for(scheduler.run(), PATIENCE)

    assert store.leader(ROLE) is None
