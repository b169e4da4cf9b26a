"""The broker contract in dicts."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

import msgspec

from django_vtasks import wire
from django_vtasks.brokers.base import (
    Ack,
    Bury,
    Capabilities,
    Claim,
    Death,
    Depth,
    Due,
    FailedTask,
    Owner,
    Reclaimed,
    Release,
    Retrial,
    Retry,
    Running,
    Settlement,
    Standing,
    TaskFailure,
    Tick,
    nothing,
)
from django_vtasks.brokers.memory.claims import RunningTasks
from django_vtasks.brokers.memory.failed import FailedList
from django_vtasks.brokers.memory.locks import UniqueLocks
from django_vtasks.brokers.memory.queue import Bell, MemoryQueue
from django_vtasks.brokers.memory.schedule import Leaders, Ledger
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
        self._reports: dict[str, str] = {}
        self._leaders = Leaders()
        self._ledger = Ledger()

    def push(self, envelopes: Sequence[Envelope], meanwhile: Callable[[], object] = nothing) -> list[bool]:
        """Add tasks in order; False at the position of one whose lock another task holds."""
        meanwhile()
        payloads = wire.encode_all(envelopes)
        with self._mutex:
            return [self._push_one(*pair) for pair in zip(envelopes, payloads, strict=True)]

    async def apush(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """Do what push() does."""
        return self.push(envelopes)

    def held(self, keys: Collection[str]) -> set[str]:
        """Return those of the unique keys that are held."""
        with self._mutex:
            return {key for key in keys if self._locks.is_held(key, self._clock())}

    async def claim(
        self, owner: Owner, queue: str, limit: int, *, wait: float = 0.0, suspects: bool = False
    ) -> list[Claim]:
        """Take up to ``limit`` tasks that are due, waiting up to ``wait`` seconds for the first."""
        deadline = time.monotonic() + wait
        while True:
            with self._mutex:
                line = self._queues[queue]
                claims = self._claim_some(owner, line, limit, suspects=suspects)
                remaining = deadline - time.monotonic()
                if claims or remaining <= 0:
                    return claims
                # Hung before the lock goes, so that no push falls between the look and the wait.
                bell = Bell()
                line.bells.add(bell)
                nap = remaining if suspects else min(remaining, line.next_due() - self._clock())
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

    def glance(self, queues: Collection[str]) -> dict[str, Depth]:
        """Count the tasks of several queues."""
        return {queue: self.depth(queue) for queue in queues}

    def oldest(self, queues: Collection[str]) -> dict[str, float]:
        """Return, of each queue where tasks wait, for how many seconds the oldest of them has been due."""
        with self._mutex:
            now = self._clock()
            since = {queue: self._queues[queue].oldest(now) for queue in queues if queue in self._queues}
            return {queue: max(0.0, now - moment) for queue, moment in since.items() if moment is not None}

    def clear(self, queue: str) -> int:
        """Delete the tasks of a queue that do not run, with their locks; return how many."""
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

    def pause(self, queue: str) -> None:
        """Let nobody claim tasks of a queue until resume()."""
        with self._mutex:
            self._queues[queue].is_paused = True

    def resume(self, queue: str) -> None:
        """Let the tasks of a queue be claimed again."""
        with self._mutex:
            self._queues[queue].resume()

    def paused(self) -> set[str]:
        """Return the queues that are paused."""
        with self._mutex:
            return {name for name, line in self._queues.items() if line.is_paused}

    def running(self, limit: int = 100) -> list[Running]:
        """Return up to ``limit`` of the tasks in flight."""
        with self._mutex:
            return self._running.all(limit)

    def failed(self, limit: int = 100, queue: str | None = None) -> list[FailedTask]:
        """Return the newest entries of the failed list, newest first."""
        with self._mutex:
            return self._failed.newest(limit, queue)

    def failed_ids(self) -> list[str]:
        """Return the ids of all failed tasks, the oldest first."""
        with self._mutex:
            return self._failed.ids()

    def failed_task(self, task_id: str) -> FailedTask | None:
        """Return the entry of a failed task with its envelope."""
        with self._mutex:
            if (found := self._failed.find(task_id)) is None:
                return None
            entry, task = found
            envelope, problem = task.read()
            return msgspec.structs.replace(entry, envelope=None if problem else envelope)

    def retry_failed(self, task_ids: Collection[str]) -> dict[str, Retrial]:
        """Move failed tasks back to their queues."""
        with self._mutex:
            return {task_id: self._retry_one(task_id) for task_id in dict.fromkeys(task_ids)}

    def delete_failed(self, task_ids: Collection[str]) -> set[str]:
        """Delete failed tasks; return the ids of those that there were."""
        with self._mutex:
            return self._failed.remove_all(task_ids)

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

    def close(self) -> None:
        """Nothing to let go."""

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""

    def inspect(self) -> list[str]:
        """Return nothing: there is no server."""
        return []

    def renew(self, node: str, ttl: float) -> bool:
        """Extend the node's lease by ``ttl`` seconds, or begin one; False when there was none."""
        with self._mutex:
            self._forget_reports()
            known = node in self._nodes
            self._nodes[node] = self._clock() + ttl
            return known

    def leave(self, node: str) -> None:
        """End the node's lease; what its owners still hold goes back at once, no crash counted."""
        with self._mutex:
            self._nodes.pop(node, None)
            self._unclaim(self._running.end_all(lambda _, holder: holder.node == node))

    def reclaim(self, owner: Owner, death: Death) -> Reclaimed:
        """Take back what a dead owner held: unharmed what was not running, the rest as verdict() says."""
        with self._mutex:
            return self._rescue(owner, death)

    def reclaim_expired(self, own: str, cause: str, among: Collection[str] | None = None) -> Reclaimed:
        """Do what reclaim() does for every owner whose node has no lease any more, but for the node ``own``."""
        with self._mutex:
            now = self._clock()
            self._locks.drop_lapsed(now)
            at_risk = set(self._nodes if among is None else among) - {own}
            self._nodes = {
                node: expires for node, expires in self._nodes.items() if node not in at_risk or expires > now
            }
            alive = {own, *self._nodes}
            lost = [owner for owner in self._running.owners() if owner.node not in alive]
            rescued = [self._rescue(owner, Death(cause)) for owner in lost]
            return Reclaimed(
                returned=[task_id for reclaimed in rescued for task_id in reclaimed.returned],
                buried=[task_id for reclaimed in rescued for task_id in reclaimed.buried],
            )

    def suspects(self) -> dict[str, int]:
        """Return how many suspects wait, by queue."""
        with self._mutex:
            return {name: line.suspects() for name, line in self._queues.items() if line.suspects()}

    def connection_limit(self) -> int | None:
        """Return None: there is no server."""
        return None

    def nodes(self) -> dict[str, float]:
        """Return each node with the seconds that its lease still has."""
        with self._mutex:
            now = self._clock()
            return {node: max(0.0, expires - now) for node, expires in self._nodes.items()}

    def publish(self, node: str, report: str) -> None:
        """Note what a node with a lease says of itself."""
        with self._mutex:
            self._reports[node] = report

    def reports(self) -> dict[str, str]:
        """Return what each node with a lease last said of itself."""
        with self._mutex:
            self._forget_reports()
            return dict(self._reports)

    def lead(self, role: str, node: str, ttl: float) -> int | None:
        """Take or keep the leadership of a role; None while another node has it."""
        with self._mutex:
            now = self._clock()
            return self._leaders.lead(role, node, now + ttl, now)

    def resign(self, role: str, node: str) -> None:
        """Give up the leadership, if it is the node's."""
        with self._mutex:
            self._leaders.resign(role, node)

    def leader(self, role: str) -> str | None:
        """Return the node that leads."""
        with self._mutex:
            return self._leaders.leader(role, self._clock())

    def register(self, entries: Mapping[str, str]) -> dict[str, Standing]:
        """Note a schedule's entries; return how each stands."""
        with self._mutex:
            return self._ledger.register(entries, self._clock())

    def tick(self, dues: Sequence[Due]) -> list[Tick]:
        """Record slots and enqueue their tasks."""
        payloads = wire.encode_all([due.envelope for due in dues])
        with self._mutex:
            return [self._tick_one(*pair) for pair in zip(dues, payloads, strict=True)]

    def standings(self) -> dict[str, Standing]:
        """Return how each registered entry stands."""
        with self._mutex:
            return self._ledger.standings()

    def _forget_reports(self) -> None:
        self._reports = {node: report for node, report in self._reports.items() if node in self._nodes}

    def _tick_one(self, due: Due, payload: bytes) -> Tick:
        if not self._ledger.take(due.entry, due.slot):
            return Tick.TAKEN
        return Tick.ENQUEUED if self._push_one(due.envelope, payload) else Tick.REFUSED

    def _push_one(self, envelope: Envelope, payload: bytes) -> bool:
        if envelope.unique and not self._locks.take(envelope.unique, envelope.id, self._clock()):
            return False
        self._queues[envelope.queue].put(StoredTask.of(envelope, payload, next(self._places)))
        return True

    def _retry_one(self, task_id: str) -> Retrial:
        if (found := self._failed.find(task_id)) is None:
            return Retrial.UNKNOWN
        entry, task = found
        envelope, problem = task.read()
        if problem:
            return Retrial.UNREADABLE
        again = envelope.anew(self._clock())
        if not self._push_one(again, wire.encode_anew(again, task.payload)):
            return Retrial.DUPLICATE
        self._failed.remove(entry)
        return Retrial.RETRIED

    def _claim_some(self, owner: Owner, line: MemoryQueue, limit: int, *, suspects: bool) -> list[Claim]:
        if owner.node not in self._nodes:
            raise LeaseLost(f"Node {owner.node} has no lease.")
        if line.is_paused:
            return []
        claims = []
        for task in line.take_suspects(limit) if suspects else line.take(limit, self._clock()):
            task.attempt += 1
            envelope, problem = task.read()
            claims.append(Claim(envelope, owner, self._running.begin(owner, task, self._clock()), problem))
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
                task.due = task.since = self._clock() + delay
                self._queues[task.queue].put(task)
            case Release():
                self._unclaim([task])
        return True

    def _unclaim(self, tasks: Iterable[StoredTask]) -> None:
        for task in tasks:
            task.attempt -= 1
            self._queues[task.queue].hand_back(task)

    def _rescue(self, owner: Owner, death: Death) -> Reclaimed:
        tasks = self._running.end_all(lambda _, holder: holder == owner)
        reclaimed = Reclaimed(returned=[], buried=[])
        for task in tasks:
            buried = self._take_back(task, death, alone=death.alone(len(tasks)))
            (reclaimed.buried if buried else reclaimed.returned).append(task.id)
        return reclaimed

    def _take_back(self, task: StoredTask, death: Death, *, alone: bool) -> bool:
        """Hand a dead owner's task back, or bury it; return whether it was buried."""
        if death.spares(task.id):
            self._unclaim([task])
        elif task.crash(alone=alone):
            self._bury(task, death.failure(task.crashes))
            return True
        else:
            self._queues[task.queue].hand_back(task)
        return False

    def _bury(self, task: StoredTask, failure: TaskFailure) -> None:
        self._locks.free(task.key, task.id)
        self._failed.add(task.failed(failure, self._clock()), task)
