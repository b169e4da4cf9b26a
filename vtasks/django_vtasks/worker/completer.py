"""Outcomes → broker, in groups; what the broker does not take is tried again."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Sequence

from django_vtasks import observers
from django_vtasks.brokers.base import Ack, Broker, Bury, Claim, Owner, Release, Retry, Settlement
from django_vtasks.errors import BrokerUnavailable
from django_vtasks.metrics import tally
from django_vtasks.worker.outage import Outage
from django_vtasks.worker.outcome import Cancelled, Failed, Outcome, Postponed, Succeeded

logger = logging.getLogger(__name__)

GATHER = 0.002
"""Seconds that the first outcome of a group waits for others."""
LARGEST_GROUP = 500


class Completer:
    """Settle what has ended, in the order in which it did.

    Up to ``largest`` are settled in one call. A settlement that the store refuses although it comes alone is tried
    again apart, and holds nobody up.
    """

    def __init__(self, broker: Broker, owner: Owner, *, largest: int = LARGEST_GROUP) -> None:
        self._largest = largest
        self._broker = broker
        self._owner = owner
        self._pending: list[Settlement] = []
        self._news = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._outage = Outage("settle tasks")
        self._group_size = largest
        self._refused: deque[Settlement] = deque()
        self._refusals = Outage("settle what the store has refused", known=True)
        self._refused_due = 0.0

    def add(self, claim: Claim, outcome: Outcome, seconds: float | None = None) -> None:
        """Note the outcome of a claim, which ran for so many seconds, if it did."""
        self._pending.append(_settlement(claim, outcome, seconds))
        if len(self._pending) == 1:
            self._settled.clear()
            self._news.set()

    @property
    def left(self) -> int:
        """Return how many outcomes are not settled yet."""
        return len(self._pending) + len(self._refused)

    @property
    def backlog(self) -> list[Claim]:
        """Return the claims that have ended but are not settled yet."""
        return [settlement.claim for settlement in (*self._pending, *self._refused)]

    async def run(self) -> None:
        """Settle groups until cancelled."""
        while True:
            await self._wait()
            if self._pending:
                if len(self._pending) < self._largest:
                    await asyncio.sleep(GATHER)
                await self._settle_group()
            if self._refused and self._refused_due <= asyncio.get_running_loop().time():
                await self._retry_refused()

    async def flush(self) -> None:
        """Return when all that was added has been settled."""
        await self._settled.wait()

    async def _wait(self) -> None:
        """Return when there are outcomes, or when what was refused is due again."""
        if not self._refused:
            await self._news.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._refused_due):
                await self._news.wait()

    async def _settle_group(self) -> None:
        group = self._pending[: self._group_size]
        began = time.perf_counter()
        try:
            accepted = await self._broker.settle(self._owner, group)
        except Exception as error:  # noqa: BLE001 - whatever the store raises, the outcomes must not be lost
            await self._make_way(group, error)
            return
        tally.settlements[(group[0].claim.envelope.queue,)].observe(time.perf_counter() - began)
        self._outage.over()
        self._group_size = self._largest
        del self._pending[: len(group)]
        self._note(group, accepted)

    async def _make_way(self, group: Sequence[Settlement], error: Exception) -> None:
        """Halve the group until the one is alone that the store refuses; pause when it refuses them all, or is silent.

        Whether it does shows with the next settlement, while this one waits apart.
        """
        is_silent = isinstance(error, BrokerUnavailable)
        if len(group) > 1:
            self._group_size = len(group) // 2
            if not is_silent:
                return
        elif not is_silent:
            self._refused.append(self._pending.pop(0))
            self._update_events()
        await asyncio.sleep(self._outage.failed(error))

    async def _retry_refused(self) -> None:
        settlement = self._refused[0]
        try:
            accepted = await self._broker.settle(self._owner, [settlement])
        except Exception as error:  # noqa: BLE001 - as above
            self._refused.rotate(-1)
            self._refused_due = asyncio.get_running_loop().time() + self._refusals.failed(error)
            return
        self._refusals.over()
        self._refused.popleft()
        self._note([settlement], accepted)

    def _note(self, group: Sequence[Settlement], accepted: Sequence[bool]) -> None:
        observers.settled(group, accepted)
        for settlement, ours in zip(group, accepted, strict=True):
            if not ours:
                _report_late(settlement)
        self._update_events()

    def _update_events(self) -> None:
        if not self._pending:
            self._news.clear()
            if not self._refused:
                self._settled.set()


def _settlement(claim: Claim, outcome: Outcome, seconds: float | None) -> Settlement:
    match outcome:
        case Succeeded():
            return Ack(claim, seconds)
        case Failed(failure):
            return Bury(claim, failure, seconds)
        case Postponed(delay):
            return Retry(claim, delay)
        case Cancelled():
            return Release(claim)


def _report_late(settlement: Settlement) -> None:
    envelope = settlement.claim.envelope
    logger.warning(
        "Task %s id=%s was no longer this worker's when it ended; its %s changes nothing",
        envelope.task, envelope.id, type(settlement).__name__.lower(),
    )  # fmt: skip
