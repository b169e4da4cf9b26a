"""The broker and coordinator of one Valkey server or cluster: the hot path here, the rest delegated."""

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from django_vtasks import wire
from django_vtasks.brokers.base import (
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
    Running,
    Settlement,
    Standing,
    Tick,
    nothing,
)
from django_vtasks.brokers.valkey import inspection, settling
from django_vtasks.brokers.valkey import keys as key_names
from django_vtasks.brokers.valkey.census import Census
from django_vtasks.brokers.valkey.connector import DEADLINE, Connector
from django_vtasks.brokers.valkey.entry import Entry
from django_vtasks.brokers.valkey.failed import FailedList
from django_vtasks.brokers.valkey.keys import MICROSECONDS, Keys
from django_vtasks.brokers.valkey.leases import Leases
from django_vtasks.brokers.valkey.link import Link
from django_vtasks.brokers.valkey.loops import Waiting
from django_vtasks.brokers.valkey.outbox import Outbox
from django_vtasks.brokers.valkey.pace import Pace
from django_vtasks.brokers.valkey.pipe import Remainder
from django_vtasks.brokers.valkey.pushing import pushes
from django_vtasks.brokers.valkey.request import Argument, command
from django_vtasks.brokers.valkey.retrials import Retrials
from django_vtasks.brokers.valkey.schedule import Schedule
from django_vtasks.brokers.valkey.settling import Receipt
from django_vtasks.envelope import Envelope
from django_vtasks.errors import BrokerUnavailable

logger = logging.getLogger(__name__)

LONGEST_WAIT = 5.0
"""Seconds after which an idle claim looks again, though no bell has rung."""
SHORTEST_WAIT = 0.001
"""Seconds: the server takes no wait for none, but for one without end."""
SUSPECTS_EVERY = 0.1
"""Seconds between two looks for suspects, which have no bell."""


class ValkeyBroker:
    """Tasks under the keys of ``prefix`` on the server at ``url``, or in the cluster that it belongs to.

    Cheap to make; connections open with the first call. A push must reach ``min_replicas`` of the server's replicas.
    """

    capabilities = Capabilities(unique=True, throttle=True, transactional=False)

    def __init__(
        self, url: str, *, prefix: str, failed_cap: int = 1000, is_cluster: bool = False, min_replicas: int = 0
    ) -> None:
        self._keys = Keys(prefix)
        self._link = Link(Connector(url, prefix, is_cluster=is_cluster))
        self._failed_cap = failed_cap
        self._replicas = min_replicas
        self._failed = FailedList(self._keys, self._link)
        self._leases = Leases(self._keys, self._link, failed_cap)
        self._retrials = Retrials(self._keys, self._link, self._failed)
        self._census = Census(self._keys, self._link)
        self._schedule = Schedule(self._keys, self._link)
        self._pace = Pace()
        self._late: set[asyncio.Task[None]] = set()
        self._outboxes: dict[asyncio.AbstractEventLoop, Outbox] = {}

    # Producers -----------------------------------------------------------------------------------------------

    def push(self, envelopes: Sequence[Envelope], meanwhile: Callable[[], object] = nothing) -> list[bool]:
        """Add tasks; what comes after a request that fails is not added."""
        fates = [False] * len(envelopes)
        for push in pushes(self._keys, envelopes, wire.encode_all(envelopes)):
            answer = self._link.send(push.request, replicas=self._replicas, meanwhile=meanwhile)
            if len(push.places) == len(fates):
                return push.accepted(answer)
            for place, accepted in zip(push.places, push.accepted(answer), strict=True):
                fates[place] = accepted
            meanwhile = nothing
        return fates

    def apush(self, envelopes: Sequence[Envelope]) -> Awaitable[list[bool]]:
        """Add tasks together with those of other coroutines."""
        loop = asyncio.get_running_loop()
        outbox = self._outboxes.get(loop)
        if outbox is None:
            for closed in [other for other in self._outboxes if other.is_closed()]:
                del self._outboxes[closed]
            outbox = self._outboxes[loop] = Outbox(self._link, partial(pushes, self._keys), self._replicas)
        return outbox.push(envelopes)

    def held(self, keys: Collection[str]) -> set[str]:
        """Return those of the unique keys that are held."""
        wanted = list(keys)
        holders = self._link.command("MGET", *map(self._keys.lock, wanted)) if wanted else []
        return {key for key, holder in zip(wanted, holders, strict=True) if holder is not None}

    # Actors --------------------------------------------------------------------------------------------------

    async def claim(
        self, owner: Owner, queue: str, limit: int, *, wait: float = 0.0, suspects: bool = False
    ) -> list[Claim]:
        """Take due tasks; when there are none, wait for the queue's bell, or for the time of the next delayed task."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        waiting: Waiting | None = None
        while True:
            # What the server claims behind the bell may wait long for an actor that is blocked or frozen: one only.
            most = limit if waiting is None else 1
            names, arguments = self._claim_of(owner, queue, most, suspects=suspects)
            remainder = Remainder()
            try:
                answer = await self._ask(waiting, names, arguments, remainder)
            except asyncio.CancelledError:
                if remainder.is_due:
                    late = asyncio.create_task(self._give_back(remainder, owner, queue, waiting))
                    self._late.add(late)
                    late.add_done_callback(self._late.discard)
                raise
            claims, next_due = _claims(owner, queue, answer)
            left = deadline - loop.time()
            if not claims and waiting is not None and waiting.refusal is not None:
                raise waiting.refusal
            if claims or left <= 0:
                return claims
            if suspects:
                await asyncio.sleep(min(left, SUSPECTS_EVERY))
            elif answer is None:
                waiting = None
            else:
                pause = min(left, LONGEST_WAIT, LONGEST_WAIT if next_due is None else next_due)
                waiting = Waiting(self._keys.bell(queue), max(SHORTEST_WAIT, pause))

    async def settle(self, owner: Owner, settlements: Sequence[Settlement]) -> list[bool]:
        """Apply settlements in one call for each queue that they come from."""
        queues = {settlement.claim.receipt.queue for settlement in settlements}
        if len(queues) == 1:  # as always where an actor serves one queue
            return [bool(answer) for answer in await self._settle(owner, queues.pop(), settlements)]
        by_queue: defaultdict[str, list[int]] = defaultdict(list)
        for position, settlement in enumerate(settlements):
            by_queue[settlement.claim.receipt.queue].append(position)
        answers = [False] * len(settlements)
        for queue, positions in by_queue.items():
            told = await self._settle(owner, queue, [settlements[position] for position in positions])
            for position, answer in zip(positions, told, strict=True):
                answers[position] = bool(answer)
        return answers

    async def _settle(self, owner: Owner, queue: str, settlements: Sequence[Settlement]) -> Sequence[int]:
        flight = self._keys.flight(owner, queue)
        if (receipts := settling.receipts_of(settlements)) is not None:
            return await self._link.acall("ack", [flight], receipts)  # type: ignore[no-any-return]
        verdicts = map(settling.verdict_of, settlements)
        call = settling.call(self._keys, flight, queue, self._failed_cap, verdicts)
        return await self._link.acall("settle", *call)  # type: ignore[no-any-return]

    async def keep_only(self, owner: Owner, held: Collection[Receipt]) -> int:
        """Give back what is booked on the owner beyond ``held``."""
        last = await self._link.asend(command("GET", self._keys.receipts))
        whose = (self._keys.prefix, key_names.part(owner.node), key_names.slot(owner))
        arguments: list[Argument] = [*whose, last or 0, *(receipt.number for receipt in held)]
        return int(await self._link.acall("keep_only", [self._keys.holders(owner.node)], arguments))

    def close(self) -> None:
        """Let the connections of threads go; calls open others."""
        self._link.close()

    async def aclose(self) -> None:
        """Close the connections of this loop, and let those of threads go."""
        if late := {task for task in self._late if task.get_loop() is asyncio.get_running_loop()}:
            await asyncio.wait(late, timeout=DEADLINE)
        await self._link.aclose()

    async def _ask(
        self, waiting: Waiting | None, names: Sequence[str], arguments: Sequence[Argument], remainder: Remainder
    ) -> Any:
        """Claim, now or when there is news, and learn from it how much the line carries."""
        pace = self._pace
        began = time.monotonic()
        try:
            if waiting is not None:
                return await self._link.acall_on_news(waiting, "claim", names, arguments, pace.patience, remainder)
            answer = await self._link.acall("claim", names, arguments, patience=pace.patience, remainder=remainder)
        except BrokerUnavailable as error:
            if isinstance(error.__cause__, TimeoutError):
                pace.slow_down()
            raise
        if 2 * (time.monotonic() - began) < DEADLINE:
            pace.speed_up()
        return answer

    async def _give_back(self, remainder: Remainder, owner: Owner, queue: str, waiting: Waiting | None) -> None:
        """Give back what a claim brings after nobody waits for it any more."""
        if waiting is not None:
            await waiting.interrupt()
        await asyncio.wait({remainder.answers}, timeout=DEADLINE)
        answers = remainder.answers.result() if remainder.answers.done() else []
        if isinstance(answers, Exception) or not answers or isinstance(answers[-1], Exception):
            return
        claims, _ = _claims(owner, queue, answers[-1])
        with contextlib.suppress(BrokerUnavailable):  # then they go back with the owner, or with its next look
            await self.settle(owner, [Release(claim) for claim in claims])

    def _claim_of(
        self, owner: Owner, queue: str, limit: int, *, suspects: bool
    ) -> tuple[Sequence[str], Sequence[Argument]]:
        """Return the keys and arguments of a claim."""
        keys = self._keys
        names = (
            keys.waiting(queue),
            keys.delayed(queue),
            keys.suspects(queue),
            keys.bell(queue),
            keys.flight(owner, queue),
            keys.nodes,
            keys.holders(owner.node),
            keys.receipts,
            keys.paused,
        )
        which = "suspects" if suspects else ""
        whose = key_names.part(owner.node), key_names.holder(owner, queue)
        return names, (*whose, limit, which, self._pace.room, key_names.part(queue))

    # Operators -----------------------------------------------------------------------------------------------

    def depth(self, queue: str) -> Depth:
        """Count the tasks of a queue."""
        return self._census.depths([queue])[queue]

    def glance(self, queues: Collection[str]) -> dict[str, Depth]:
        """Count the tasks of several queues, which takes the same time however long they are."""
        return self._census.depths(queues)

    def oldest(self, queues: Collection[str]) -> dict[str, float]:
        """Return, of each queue where tasks wait, for how many seconds the oldest of them has been due."""
        return self._census.oldest(queues)

    def clear(self, queue: str) -> int:
        """Delete the tasks of a queue that do not run, with their locks."""
        return self._census.clear(queue)

    def queues(self) -> list[str]:
        """Return the names of the queues that hold a task."""
        return self._census.queues()

    def pause(self, queue: str) -> None:
        """Let nobody claim tasks of a queue until resume()."""
        self._link.call("pause", [self._keys.paused], [key_names.part(queue)])

    def resume(self, queue: str) -> None:
        """Let the tasks of a queue be claimed again."""
        self._link.call("resume", [self._keys.paused, self._keys.bell(queue)], [key_names.part(queue)])

    def paused(self) -> set[str]:
        """Return the queues that are paused."""
        return {key_names.name(queue.decode()) for queue in self._link.command("SMEMBERS", self._keys.paused)}

    def running(self, limit: int = 100) -> list[Running]:
        """Return up to ``limit`` of the tasks in flight."""
        return self._leases.running(limit)

    def failed(self, limit: int = 100, queue: str | None = None) -> list[FailedTask]:
        """Return the newest entries of the failed list."""
        return self._failed.newest(limit, queue)

    def failed_ids(self) -> list[str]:
        """Return the ids of all failed tasks, the oldest first."""
        return self._failed.ids()

    def failed_task(self, task_id: str) -> FailedTask | None:
        """Return the entry of a failed task with its envelope."""
        return self._failed.entry(task_id)

    def retry_failed(self, task_ids: Collection[str]) -> dict[str, Retrial]:
        """Move failed tasks back to their queues."""
        return self._retrials.retry(task_ids)

    def delete_failed(self, task_ids: Collection[str]) -> set[str]:
        """Delete failed tasks; return the ids of those that there were."""
        return self._failed.delete(task_ids)

    def failed_count(self) -> int:
        """Return the length of the failed list."""
        return self._failed.count()

    def evictions(self) -> int:
        """Return how many failed tasks were dropped because the list was full."""
        return self._failed.evictions()

    def clear_failed(self) -> int:
        """Empty the failed list."""
        return self._failed.clear()

    # Coordinator ---------------------------------------------------------------------------------------------

    def inspect(self) -> list[str]:
        """Return what the server's settings may cost; raise ConfigError when it cannot keep tasks."""
        return inspection.inspect(self._link, self._replicas)

    def renew(self, node: str, ttl: float) -> bool:
        """Extend a node's lease by ``ttl`` seconds from now."""
        return self._leases.renew(node, ttl)

    def leave(self, node: str) -> None:
        """End a node's lease and give back what it holds."""
        self._leases.leave(node)

    def reclaim(self, owner: Owner, death: Death) -> Reclaimed:
        """Take back what a dead owner held."""
        return self._leases.reclaim(owner, death)

    def reclaim_expired(self, own: str, cause: str, among: Collection[str] | None = None) -> Reclaimed:
        """Take back what the owners of lapsed leases held."""
        return self._leases.reclaim_expired(own, cause, among)

    def suspects(self) -> dict[str, int]:
        """Count the suspects of each queue that has any."""
        return self._census.suspects()

    def connection_limit(self) -> int | None:
        """Return None: the tasks' own connections are to another server."""
        return None

    def lead(self, role: str, node: str, ttl: float) -> int | None:
        """Take or keep the leadership of a role; None while another node has it."""
        return self._schedule.lead(role, node, ttl)

    def resign(self, role: str, node: str) -> None:
        """Give up the leadership, if it is the node's."""
        self._schedule.resign(role, node)

    def leader(self, role: str) -> str | None:
        """Return the node that leads."""
        return self._schedule.leader(role)

    def register(self, entries: Mapping[str, str]) -> dict[str, Standing]:
        """Note a schedule's entries; return how each stands."""
        return self._schedule.register(entries)

    def tick(self, dues: Sequence[Due]) -> list[Tick]:
        """Record slots and enqueue their tasks."""
        return self._schedule.tick(dues, replicas=self._replicas)

    def standings(self) -> dict[str, Standing]:
        """Return how each registered entry stands."""
        return self._schedule.standings()

    def nodes(self) -> dict[str, float]:
        """Return each node with the seconds left of its lease."""
        return self._leases.nodes()

    def publish(self, node: str, report: str) -> None:
        """Note what a node with a lease says of itself."""
        self._leases.publish(node, report)

    def reports(self) -> dict[str, str]:
        """Return what each node with a lease last said of itself."""
        return self._leases.reports()


def _claims(owner: Owner, queue: str, answer: Any) -> tuple[list[Claim], float | None]:
    """Return what a claim got, and the seconds until the next delayed task is due, if there is one."""
    if answer is None:
        return [], None
    first, next_due, *entries = answer
    claims = []
    for number, entry in enumerate(entries, first):
        envelope, lock, problem = Entry.opened(entry, queue)
        claims.append(Claim(envelope, owner, Receipt(number, queue, lock), problem))
    return claims, None if next_due < 0 else next_due / MICROSECONDS
