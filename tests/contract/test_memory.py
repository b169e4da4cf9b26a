"""The contract in this process's memory."""

import time
from dataclasses import replace

import pytest
from django_vtasks.brokers.memory import MemoryBroker
from django_vtasks.brokers.memory.stored import StoredTask

from tests.contract.broker import BrokerContract


class MemoryBackdoor:
    """One broker for all: another process has no part in this one's memory."""

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

    def locks(self) -> dict[str, str]:
        locks = self._broker._locks._locks
        return {key: lock.task_id for key, lock in locks.items() if lock.holds(time.time())}

    def lapse_lock(self, key: str) -> None:
        locks = self._broker._locks._locks
        locks[key] = replace(locks[key], expires=0.0)

    def expire_lease(self, node: str) -> None:
        self._broker._nodes[node] = 0.0

    def drop_lease(self, node: str) -> None:
        del self._broker._nodes[node]

    def _find(self, task_id: str) -> StoredTask:
        queues = self._broker._queues.values()
        [task] = [task for queue in queues for task in queue.tasks() if task.id == task_id]
        return task


class TestMemory(BrokerContract):
    @pytest.fixture
    def backdoor(self, failed_cap):
        return MemoryBackdoor(failed_cap)
