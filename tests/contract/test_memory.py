"""The contract in this process's memory."""

import time
from dataclasses import replace

import pytest

from django_vtasks.brokers.base import Depth
from django_vtasks.brokers.memory import MemoryBroker
from django_vtasks.brokers.memory.queue import MemoryQueue
from django_vtasks.brokers.memory.stored import StoredTask
from tests.contract.broker import BrokerContract
from tests.contract.given import A_LEASE, ALICE, a_task, throttle


class MemoryBackdoor:
    """One broker for all: another process has no part in this one's memory."""

    keeps_age = True

    def __init__(self, failed_cap: int = 1000) -> None:
        self._broker = MemoryBroker(failed_cap=failed_cap)

    def open(self) -> MemoryBroker:
        return self._broker

    def corrupt(self, task_id: str, payload: bytes) -> None:
        self._find(task_id).payload = payload

    def payload_of(self, task_id: str) -> bytes:
        return self._find(task_id).payload

    def make_due(self, task_id: str) -> None:
        self._find(task_id).due = time.time()

    def places(self) -> list[tuple[str, str]]:
        running = [(task.id, "running") for _, task in self._broker._running._held.values()]
        return running + [place for queue in self._broker._queues.values() for place in _places(queue)]

    def locks(self) -> dict[str, str]:
        locks = self._broker._locks._locks
        return {key: lock.task_id for key, lock in locks.items() if lock.holds(time.time())}

    def lapse_lock(self, key: str) -> None:
        locks = self._broker._locks._locks
        locks[key] = replace(locks[key], expires=0.0)

    def expire_lease(self, node: str) -> None:
        self._broker._nodes[node] = 0.0

    def end_term(self, role: str) -> None:
        self._broker._leaders._by_role[role].expires = 0.0

    def backdate(self, entry: str) -> None:
        self._broker._ledger._entries[entry].since = 1.0

    def drop_lease(self, node: str) -> None:
        del self._broker._nodes[node]

    def _find(self, task_id: str) -> StoredTask:
        queues = self._broker._queues.values()
        [task] = [task for queue in queues for task in queue.tasks() if task.id == task_id]
        return task


def _places(queue: MemoryQueue) -> list[tuple[str, str]]:
    lines = {"waiting": queue._waiting, "delayed": queue._delayed, "suspect": queue._suspects}
    return [(task.id, name) for name, line in lines.items() for task in line]


class TestMemory(BrokerContract):
    @pytest.fixture
    def backdoor(self, failed_cap):
        return MemoryBackdoor(failed_cap)

    async def test_time_is_what_the_clock_says(self):
        now = 1000.0
        broker = MemoryBroker(clock=lambda: now)
        broker.renew(ALICE.node, A_LEASE)
        broker.push([a_task(run_after=1060.0), a_task(unique=throttle(ttl=60.0))])
        assert broker.depth("mail") == Depth(waiting=1, delayed=1, running=0)

        now = 1060.0

        assert broker.push([a_task(unique=throttle())]) == [True]
        assert len(await broker.claim(ALICE, "mail", 9)) == 3
        assert broker.nodes() == {ALICE.node: 0.0}

    async def test_an_idle_claim_of_suspects_does_not_spin_on_a_delayed_task_that_is_due(self, broker, monkeypatch):
        looks = []

        def look(*args):
            looks.append(args)
            return []

        monkeypatch.setattr(MemoryQueue, "take_suspects", look)
        broker.push([a_task(run_after=1.0)])

        assert await broker.claim(ALICE, "mail", 1, wait=0.1, suspects=True) == []

        assert len(looks) < 10

    async def test_an_idle_claim_leaves_no_bell_behind(self, broker):
        await broker.claim(ALICE, "mail", 1, wait=0.01)

        assert not broker._queues["mail"].bells
