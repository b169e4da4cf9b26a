"""The broker contract in dicts."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import count
from typing import Any

from django_vtasks import wire
from django_vtasks.brokers.base import (
    Ack,
    Bury,
    Capabilities,
    Claim,
    Depth,
    FailedTask,
    Owner,
    Reclaimed,
    Release,
    Retry,
    Settlement,
    TaskFailure,
    worker_lost,
)
from django_vtasks.brokers.memory.claims import RunningTasks
from django_vtasks.brokers.memory.failed import FailedList
from django_vtasks.brokers.memory.locks import UniqueLocks
from django_vtasks.brokers.memory.queue import Bell, MemoryQueue
from django_vtasks.brokers.memory.stored import StoredTask
from django_vtasks.envelope import Envelope
from django_vtasks.errors import LeaseLost


class MemoryBroker:
    """Broker and Coordinator under one lock, for every thread and event loop of this process.

    ``failed_cap`` is the length of the failed list, ``clock`` returns seconds since the epoch.
    """

    capabilities = Capabilities(unique=True, throttle=True, transactional=False)

    def __init__(self, *, failed_cap: int = 1000, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._places = count(1)
        self._queues: defaultdict[str, MemoryQueue] = defaultdict(MemoryQueue)
        self._running = RunningTasks()
        self._locks = UniqueLocks()
        self._failed = FailedList(failed_cap)
        self._nodes: dict[str, float] = {}

    def push(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """Add tasks in order; False at the position of one whose lock another task holds."""
        payloads = [wire.encode(envelope) for envelope in envelopes]
        with self._mutex:
            return [self._push_one(*pair) for pair in zip(envelopes, payloads, strict=True)]

    async def apush(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """Do what push() does."""
        return self.push(envelopes)

    async def claim(self, owner: Owner, queue: str, limit: int, *, wait: float = 0.0) -> list[Claim]:
        """Take up to ``limit`` tasks that are due, waiting up to ``wait`` seconds for the first."""
        deadline = time.monotonic() + wait
        while True:
            with self._mutex:
                line = self._queues[queue]
                claims = self._claim_due(owner, line, limit)
                remaining = deadline - time.monotonic()
                if claims or remaining <= 0:
                    return claims
                # Hung before the lock goes, so that no push falls between the look and the wait.
                bell = Bell()
                line.bells.add(bell)
                nap = min(remaining, line.next_due() - self._clock())
            try:
                await bell.rung(within=nap)
            finally:
                with self._mutex:
                    line.bells.discard(bell)

    async def settle(self, owner: Owner, settlements: Sequence[Settlement]) -> list[bool]:
        """Apply what became of claims in one step each; False where the claim is no longer the owner's."""
        with self._mutex:
            return [self._settle_one(owner, settlement) for settlement in settlements]

    async def keep_only(self, owner: Owner, held: Collection[Any]) -> int:
        """Give back what is booked on ``owner`` beyond the receipts ``held``; return how many."""
        with self._mutex:
            strays = self._running.end_all(lambda receipt, holder: holder == owner and receipt not in held)
            self._unclaim(strays)
            return len(strays)

    def depth(self, queue: str) -> Depth:
        """Count the tasks of a queue."""
        with self._mutex:
            waiting, delayed = self._queues[queue].counts(self._clock())
            return Depth(waiting, delayed, self._running.queues().count(queue))

    def clear(self, queue: str) -> int:
        """Delete the waiting and delayed tasks of a queue with their locks; return how many."""
        with self._mutex:
            cleared = self._queues[queue].clear()
            for task in cleared:
                self._locks.free(task.key, task.id, even_kept=True)
            return len(cleared)

    def queues(self) -> list[str]:
        """Return the names of all queues that hold a task, sorted."""
        with self._mutex:
            names = {name for name, line in self._queues.items() if len(line)}
            return sorted(names.union(self._running.queues()))

    def failed(self, limit: int = 100) -> list[FailedTask]:
        """Return the newest entries of the failed list, newest first."""
        with self._mutex:
            return self._failed.newest(limit)

    def failed_count(self) -> int:
        """Return the length of the failed list."""
        return len(self._failed)

    def evictions(self) -> int:
        """Return how many failed tasks were dropped, ever, because the list was full."""
        return self._failed.evictions

    def clear_failed(self) -> int:
        """Empty the failed list; return how many entries it had."""
        with self._mutex:
            return self._failed.clear()

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""

    def renew(self, node: str, ttl: float) -> bool:
        """Extend the node's lease by ``ttl`` seconds, or begin one; False when there was none."""
        with self._mutex:
            known = node in self._nodes
            self._nodes[node] = self._clock() + ttl
            return known

    def leave(self, node: str) -> None:
        """End the node's lease; what its owners still hold goes back at once, no crash counted."""
        with self._mutex:
            self._nodes.pop(node, None)
            self._unclaim(self._running.end_all(lambda _, holder: holder.node == node))

    def reclaim(self, owner: Owner, cause: str) -> Reclaimed:
        """Take back what a dead owner held: its tasks wait again with ``crashes + 1``, or fail as poison."""
        with self._mutex:
            return self._rescue(self._running.end_all(lambda _, holder: holder == owner), cause)

    def reclaim_expired(self, cause: str) -> Reclaimed:
        """Do what reclaim() does for every owner whose node has no lease any more."""
        with self._mutex:
            now = self._clock()
            self._locks.drop_lapsed(now)
            self._nodes = {node: expires for node, expires in self._nodes.items() if expires > now}
            return self._rescue(self._running.end_all(lambda _, holder: holder.node not in self._nodes), cause)

    def nodes(self) -> dict[str, float]:
        """Return each node with the seconds that its lease still has."""
        with self._mutex:
            now = self._clock()
            return {node: max(0.0, expires - now) for node, expires in self._nodes.items()}

    def _push_one(self, envelope: Envelope, payload: bytes) -> bool:
        if envelope.unique and not self._locks.take(envelope.unique, envelope.id, self._clock()):
            return False
        self._queues[envelope.queue].put(StoredTask.of(envelope, payload, next(self._places)))
        return True

    def _claim_due(self, owner: Owner, line: MemoryQueue, limit: int) -> list[Claim]:
        if owner.node not in self._nodes:
            raise LeaseLost(f"Node {owner.node} has no lease.")
        claims = []
        for task in line.take(limit, self._clock()):
            task.attempt += 1
            envelope, problem = task.read()
            claims.append(Claim(envelope, owner, self._running.begin(owner, task), problem))
        return claims

    def _settle_one(self, owner: Owner, settlement: Settlement) -> bool:
        task = self._running.end(owner, settlement.claim.receipt)
        if task is None:
            return False
        match settlement:
            case Ack():
                self._locks.free(task.key, task.id)
            case Bury(failure=failure):
                self._bury(task, failure)
            case Retry(delay=delay):
                self._put_back(task, due=self._clock() + delay)
            case Release():
                self._unclaim([task])
        return True

    def _unclaim(self, tasks: Iterable[StoredTask]) -> None:
        for task in tasks:
            task.attempt -= 1
            self._put_back(task)

    def _rescue(self, tasks: Iterable[StoredTask], cause: str) -> Reclaimed:
        reclaimed = Reclaimed(returned=[], buried=[])
        for task in tasks:
            task.crashes += 1
            if task.is_poison():
                self._bury(task, worker_lost(cause, task.crashes))
                reclaimed.buried.append(task.id)
            else:
                self._put_back(task)
                reclaimed.returned.append(task.id)
        return reclaimed

    def _put_back(self, task: StoredTask, due: float | None = None) -> None:
        task.due = due
        self._queues[task.queue].put(task)

    def _bury(self, task: StoredTask, failure: TaskFailure) -> None:
        self._locks.free(task.key, task.id)
        self._failed.add(task.failed(failure, self._clock()))
