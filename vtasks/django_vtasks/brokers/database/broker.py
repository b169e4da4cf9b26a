"""The broker and coordinator of one database alias: the hot path here, the rest delegated."""

import asyncio
import functools
import itertools
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from asgiref.sync import sync_to_async
from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

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
    Tick,
    nothing,
)
from django_vtasks.brokers.database import ages, clearing
from django_vtasks.brokers.database.census import Census
from django_vtasks.brokers.database.dialect import ClaimedRow, Dialect, NewRow, Place, Receipt, write_transaction
from django_vtasks.brokers.database.failures import IDS_AT_ONCE, FailedList
from django_vtasks.brokers.database.gateway import DEADLINE, Gateway
from django_vtasks.brokers.database.leases import Leases
from django_vtasks.brokers.database.pausing import Pausing
from django_vtasks.brokers.database.rescue import Rescue
from django_vtasks.brokers.database.retrials import Retrials
from django_vtasks.brokers.database.schedule import Schedule
from django_vtasks.brokers.database.settling import Settling
from django_vtasks.brokers.database.tables import Tables
from django_vtasks.brokers.database.ticking import Ticking
from django_vtasks.brokers.database.vendors import connection_limit, vendor_of
from django_vtasks.envelope import Envelope
from django_vtasks.errors import BrokerUnavailable, LeaseLost, PayloadError

logger = logging.getLogger(__name__)

PUSH_CHUNK = 5000
"""Rows of one INSERT: large enough for speed, small enough for memory and packet limits."""
LEASE_DEADLINE = 4.0
"""Seconds for a call about leases, or half of what it buys if that is less: time for another try before it ends."""
LEASE_LOCK_WAIT = 1
"""Seconds for which such a call waits for a row that somebody has locked."""
ATTEMPTS = 5
"""How often a transaction is tried that deadlocks with another."""

type ClaimStatement = Callable[[BaseDatabaseWrapper, Owner, str, int], list[ClaimedRow]]


class DatabaseBroker:
    """Tasks in the tables of ``django_vtasks.db``, reached through the alias ``using``.

    Cheap to make; what is expensive (thread, connections) opens with the first claim. ``deadline`` is how many
    seconds a call of an actor may take.
    """

    def __init__(self, using: str, *, failed_cap: int = 1000, deadline: float = DEADLINE) -> None:
        vendor = vendor_of(using)
        self.capabilities = Capabilities(
            unique=True, throttle=True, transactional=True, database=using, connections=vendor.connections
        )
        self._using = using
        self._dialect: Dialect = vendor.dialect
        self._wakeup = vendor.wakeup
        self._gateway = Gateway(using, self._dialect.prepare, deadline=deadline)
        briefly = functools.partial(self._dialect.prepare, lock_wait=LEASE_LOCK_WAIT)
        self._lease_gateway = Gateway(using, briefly, deadline=min(deadline, LEASE_DEADLINE))
        # Elections and slots may be slow, and a renewal of the lease must not wait behind them.
        self._role_gateway = Gateway(using, briefly, deadline=min(deadline, LEASE_DEADLINE))
        self._look_gateway = Gateway(using, self._dialect.prepare, deadline=deadline)
        tables = Tables(using, self._dialect)
        self._failed = FailedList(tables, failed_cap)
        self._settling = Settling(tables, self._failed)
        self._leases = Leases(tables, Rescue(tables, self._failed))
        self._census = Census(tables)
        self._pausing = Pausing(tables)
        self._schedule = Schedule(tables)
        self._retrials = Retrials(tables, self._insert)
        self._ticking = Ticking(self._dialect, self._in_role, self._insert)

    # Producers -----------------------------------------------------------------------------------------------

    def push(self, envelopes: Sequence[Envelope], meanwhile: Callable[[], object] = nothing) -> list[bool]:
        """Insert tasks on the calling thread's connection, inside its transaction if it has one."""
        meanwhile()
        if not envelopes:
            return []
        rows = list(map(NewRow.of, envelopes, wire.encode_all(envelopes)))
        accepted = self._here(self._insert, rows)
        return [row.task_id in accepted for row in rows]

    async def apush(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """Insert tasks on the thread that holds the coroutine's connection."""
        return await sync_to_async(self.push)(envelopes)

    def held(self, keys: Collection[str]) -> set[str]:
        """Return those of the unique keys that are held, as the caller's transaction sees it."""
        return self._census.held(keys)

    def _insert(self, connection: BaseDatabaseWrapper, rows: Sequence[NewRow]) -> set[str]:
        """Insert rows, of each key the first, whose locks are free; return their task ids."""
        rows = _first_of_each_key(rows)
        if len(rows) <= PUSH_CHUNK:
            accepted = self._dialect.push(connection, rows)
        else:
            with write_transaction(connection):
                chunks = itertools.batched(rows, PUSH_CHUNK)
                accepted = set().union(*(self._dialect.push(connection, chunk) for chunk in chunks))
        if accepted:
            self._dialect.announce(connection, {row.queue for row in rows if row.task_id in accepted})
        return accepted

    # Actors --------------------------------------------------------------------------------------------------

    async def claim(
        self, owner: Owner, queue: str, limit: int, *, wait: float = 0.0, suspects: bool = False
    ) -> list[Claim]:
        """Take due tasks; between looks, wait for the database's own signal."""
        claim = self._dialect.claim_suspects if suspects else self._dialect.claim
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        pauses = self._pauses()
        while True:
            since = self._wakeup.arm(queue) if wait > 0 else 0
            rows, next_due = await self._call(
                self._take, claim, owner, queue, limit, undo=lambda late: self._give_back(owner, late[0])
            )
            if rows:
                self._wakeup.found()
                return [_claim(row, owner, queue) for row in sorted(rows, key=lambda row: (row.rank, row.id))]
            left = deadline - loop.time()
            if left <= 0:
                return []
            # A delayed task is none of a suspects' claim's business, which would look for it without a pause.
            pause = left if suspects or next_due is None else min(left, next_due)
            if await self._wakeup.wait(queue, since, min(pause, next(pauses))):
                pauses = self._pauses()

    async def settle(self, owner: Owner, settlements: Sequence[Settlement]) -> list[bool]:
        """Apply settlements, one statement or transaction for each kind of them."""
        if not settlements:
            return []
        # A claim that a crash of the server has undone may be made again, with the same receipt, while its first run
        # goes on: of two settlements of one claim the first holds.
        first: dict[Receipt, Settlement] = {}
        for settlement in settlements:
            first.setdefault(settlement.claim.receipt, settlement)
        settled: set[Receipt] = set()
        await self._call(self._settle, owner, list(first.values()), settled)
        return [
            first[settlement.claim.receipt] is settlement and settlement.claim.receipt in settled
            for settlement in settlements
        ]

    async def keep_only(self, owner: Owner, held: Collection[tuple[int, int]]) -> int:
        """Give back what is booked on the owner beyond ``held``."""
        given_up = threading.Event()
        try:
            return await self._call(lambda _: self._settling.keep_only(owner, held, given_up))
        finally:
            given_up.set()

    def close(self) -> None:
        """Nothing to let go: threads use Django's connections."""

    async def aclose(self) -> None:
        """Close the worker's connections."""
        self._wakeup.close()
        self._gateway.abandon()
        self._lease_gateway.abandon()
        self._role_gateway.abandon()
        self._look_gateway.abandon()

    def _settle(
        self, connection: BaseDatabaseWrapper, owner: Owner, settlements: Sequence[Settlement], settled: set[Receipt]
    ) -> None:
        """Add to ``settled``, so that another attempt begins with the kind that made this one fail."""
        left = [settlement for settlement in settlements if settlement.claim.receipt not in settled]
        if acks := [settlement.claim for settlement in left if isinstance(settlement, Ack)]:
            unlock = any(claim.envelope.unique is not None for claim in acks)
            receipts = [claim.receipt for claim in acks]
            settled |= self._dialect.acknowledge(connection, owner, receipts, unlock=unlock)
        if burials := [settlement for settlement in left if isinstance(settlement, Bury)]:
            settled |= self._settling.bury(owner, burials)
        if retries := [settlement for settlement in left if isinstance(settlement, Retry)]:
            settled |= self._settling.retry(owner, retries)
        if releases := [settlement for settlement in left if isinstance(settlement, Release)]:
            settled |= self._settling.release(owner, [release.claim.receipt for release in releases])

    def _pauses(self) -> Iterator[float]:
        return itertools.chain(self._dialect.first_pauses, itertools.repeat(self._dialect.longest_pause))

    def _take(
        self, connection: BaseDatabaseWrapper, claim: ClaimStatement, owner: Owner, queue: str, limit: int
    ) -> tuple[list[ClaimedRow], float | None]:
        """Claim; when there is nothing, return the seconds until there is, if anybody knows."""
        if rows := claim(connection, owner, queue, limit):
            return rows, None
        prospect = self._census.prospect(connection, owner.node, queue)
        if not prospect.has_lease:
            raise LeaseLost(f"Node {owner.node} has no lease; its tasks were given to others.")
        return [], prospect.next_due

    def _give_back(self, owner: Owner, rows: list[ClaimedRow]) -> None:
        receipts = [(row.id, row.fence) for row in rows]
        self._gateway.submit(lambda _: self._settling.release(owner, receipts))

    # Where things run ----------------------------------------------------------------------------------------

    async def _call[T](self, function: Callable[..., T], *args: object, undo: Callable[[T], object] | None = None) -> T:
        """Call ``function(connection, *args)`` on the broker's own thread."""
        try:
            return await self._gateway.call(self._attempt, function, *args, undo=undo)
        except BrokerUnavailable:
            # What does not answer here may have gone silent there too.
            self._wakeup.close()
            raise

    def _apart[T](self, function: Callable[..., T], *args: object) -> T:
        """Call ``function(connection, *args)`` on the thread of the lease; wait for it here."""
        result: T = self._lease_gateway.run(self._attempt, function, *args)
        return result

    def _in_role[T](self, function: Callable[..., T], *args: object) -> T:
        """Call ``function(connection, *args)`` on the thread of those who lead, or want to; wait for it here."""
        result: T = self._role_gateway.run(self._attempt, function, *args)
        return result

    def _look[T](self, function: Callable[..., T], *args: object) -> T:
        """Call ``function(connection, *args)`` where nothing else waits; within the caller's transaction, there."""
        if connections[self._using].in_atomic_block:
            return self._here(function, *args)
        result: T = self._look_gateway.run(self._attempt, function, *args)
        return result

    def _here[T](self, function: Callable[..., T], *args: object) -> T:
        """Call ``function(connection, *args)`` on the calling thread."""
        return self._attempt(connections[self._using], function, *args)

    def _attempt[T](self, connection: BaseDatabaseWrapper, function: Callable[..., T], *args: object) -> T:
        """Call a function that is one transaction, again when a deadlock or the like made it fail."""
        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                return function(connection, *args)
            except OperationalError as error:
                # Inside the caller's transaction only the caller can start again.
                if connection.in_atomic_block or not attempts_left or not self._dialect.is_transient(error):
                    raise
        raise AssertionError("unreachable")

    # Operators -----------------------------------------------------------------------------------------------

    def depth(self, queue: str) -> Depth:
        """Count the tasks of a queue."""
        return self._census.depth(queue)

    def glance(self, queues: Collection[str]) -> dict[str, Depth]:
        """Count the tasks of several queues, up to a limit, on a thread that nothing else waits for."""
        return self._look(lambda _: {queue: self._census.glance(queue) for queue in queues})

    def oldest(self, queues: Collection[str]) -> dict[str, float]:
        """Return, of each queue where tasks wait, for how many seconds the oldest of them has been due."""
        return self._look(ages.oldest, queues)

    def clear(self, queue: str) -> int:
        """Delete the tasks of a queue that do not run, with their locks; those that come meanwhile stay."""
        newest = self._census.newest()

        def clear(limit: int, place: Place | None) -> tuple[int, Place | None]:
            return self._here(self._dialect.clear, queue, limit, newest, place)

        return clearing.clear(clear, self._dialect.cleared_at_once)

    def queues(self) -> list[str]:
        """Return the names of the queues that hold a task."""
        return self._census.queues()

    def pause(self, queue: str) -> None:
        """Let nobody claim tasks of a queue until resume()."""
        self._here(lambda _: self._pausing.pause(queue))

    def resume(self, queue: str) -> None:
        """Let the tasks of a queue be claimed again."""
        self._here(lambda _: self._pausing.resume(queue))

    def paused(self) -> set[str]:
        """Return the queues that are paused."""
        return self._look(lambda _: self._pausing.paused())

    def running(self, limit: int = 100) -> list[Running]:
        """Return up to ``limit`` of the tasks in flight; the database does not know since when."""
        return self._census.running(limit)

    def failed(self, limit: int = 100, queue: str | None = None) -> list[FailedTask]:
        """Return the newest entries of the failed list."""
        return self._failed.newest(limit, queue)

    def failed_ids(self) -> list[str]:
        """Return the ids of all failed tasks, the oldest first."""
        return self._failed.ids()

    def failed_task(self, task_id: str) -> FailedTask | None:
        """Return the entry of a failed task with its envelope."""
        return self._failed.find(task_id)

    def retry_failed(self, task_ids: Collection[str]) -> dict[str, Retrial]:
        """Move failed tasks back to their queues, some hundred in each transaction."""
        retrials: dict[str, Retrial] = {}
        for some in itertools.batched(dict.fromkeys(task_ids), IDS_AT_ONCE):
            retrials |= self._here(self._retrials.retry, some)
        return retrials

    def delete_failed(self, task_ids: Collection[str]) -> set[str]:
        """Delete failed tasks; return the ids of those that there were."""
        return self._failed.delete(task_ids)

    def failed_count(self) -> int:
        """Return the length of the failed list."""
        return self._look(lambda _: self._failed.count())

    def evictions(self) -> int:
        """Return how many failed tasks were dropped because the list was full."""
        return self._look(lambda _: self._failed.evictions())

    def clear_failed(self) -> int:
        """Empty the failed list."""
        return self._failed.clear()

    # Coordinator ---------------------------------------------------------------------------------------------

    def inspect(self) -> list[str]:
        """Return nothing: Django's own checks look at databases."""
        return []

    def renew(self, node: str, ttl: float) -> bool:
        """Extend a node's lease by ``ttl`` seconds from now."""
        self._lease_gateway.deadline = min(self._lease_gateway.deadline, ttl / 2)
        ends = self._leases.ends
        return self._apart(lambda _: self._leases.renew(node, ttl, ends))

    def leave(self, node: str) -> None:
        """End a node's lease and give back what it holds."""
        self._apart(lambda _: self._leases.leave(node))

    def reclaim(self, owner: Owner, death: Death) -> Reclaimed:
        """Take back what a dead owner held."""
        return self._apart(lambda _: self._leases.reclaim(owner, death))

    def reclaim_expired(self, own: str, cause: str, among: Collection[str] | None = None) -> Reclaimed:
        """Take back what the owners of lapsed leases held."""
        return self._apart(lambda _: self._leases.reclaim_expired(own, cause, among))

    def suspects(self) -> dict[str, int]:
        """Count the suspects of each queue that has any."""
        return self._look(self._census.suspects)

    def connection_limit(self) -> int | None:
        """Return how many connections the server allows in all."""
        return self._apart(connection_limit)

    def lead(self, role: str, node: str, ttl: float) -> int | None:
        """Take or keep the leadership of a role; None while another node has it."""
        return self._in_role(lambda _: self._schedule.lead(role, node, ttl))

    def resign(self, role: str, node: str) -> None:
        """Give up the leadership, if it is the node's."""
        self._in_role(lambda _: self._schedule.resign(role, node))

    def leader(self, role: str) -> str | None:
        """Return the node that leads."""
        return self._in_role(lambda _: self._schedule.leader(role))

    def register(self, entries: Mapping[str, str]) -> dict[str, Standing]:
        """Note a schedule's entries; return how each stands."""
        return self._in_role(lambda _: self._schedule.register(entries))

    def tick(self, dues: Sequence[Due]) -> list[Tick]:
        """Record slots and enqueue their tasks."""
        return self._ticking.tick(dues)

    def standings(self) -> dict[str, Standing]:
        """Return how each registered entry stands."""
        return self._look(lambda _: self._schedule.standings())

    def nodes(self) -> dict[str, float]:
        """Return each node with the seconds left of its lease."""
        return self._apart(lambda _: self._leases.nodes())

    def publish(self, node: str, report: str) -> None:
        """Note what a node with a lease says of itself."""
        self._apart(lambda _: self._leases.publish(node, report))

    def reports(self) -> dict[str, str]:
        """Return what each node with a lease last said of itself."""
        return self._look(lambda _: self._leases.reports())


def _first_of_each_key(rows: Sequence[NewRow]) -> list[NewRow]:
    seen: set[str] = set()
    first = []
    for row in rows:
        if row.unique is not None:
            if row.unique.key in seen:
                continue
            seen.add(row.unique.key)
        first.append(row)
    return first


def _claim(row: ClaimedRow, owner: Owner, queue: str) -> Claim:
    receipt = (row.id, row.fence)
    try:
        envelope = wire.decode(bytes(row.payload))
    except PayloadError as error:
        return Claim(Envelope.unreadable(row.task_id, queue), owner, receipt, problem=str(error))
    return Claim(wire.stamped(envelope, attempt=row.attempt, crashes=row.crashes), owner, receipt)
