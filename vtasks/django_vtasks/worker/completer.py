"""Outcomes → broker, in groups; what the broker does not take is tried again."""

import asyncio
import logging

from django_vtasks.brokers.base import Ack, Broker, Bury, Claim, Owner, Release, Retry, Settlement
from django_vtasks.worker.outage import Outage
from django_vtasks.worker.outcome import Cancelled, Failed, Outcome, Postponed, Succeeded

logger = logging.getLogger(__name__)

GATHER = 0.002
"""Seconds that the first outcome of a group waits for others."""
LARGEST_GROUP = 500


class Completer:
    """Settle what has ended, in the order in which it did."""

    def __init__(self, broker: Broker, owner: Owner) -> None:
        self._broker = broker
        self._owner = owner
        self._pending: list[Settlement] = []
        self._news = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._outage = Outage("settle tasks")
        self._group_size = LARGEST_GROUP

    def add(self, claim: Claim, outcome: Outcome) -> None:
        """Note the outcome of a claim."""
        self._pending.append(_settlement(claim, outcome))
        self._settled.clear()
        self._news.set()

    @property
    def backlog(self) -> list[Claim]:
        """Return the claims that have ended but are not settled yet."""
        return [settlement.claim for settlement in self._pending]

    async def run(self) -> None:
        """Settle groups until cancelled."""
        while True:
            await self._news.wait()
            if len(self._pending) < LARGEST_GROUP:
                await asyncio.sleep(GATHER)
            await self._settle_group()

    async def flush(self) -> None:
        """Return when all that was added has been settled."""
        await self._settled.wait()

    def _make_way(self) -> None:
        """Try smaller groups, down to single settlements in turn: one that no store takes must not block others."""
        if self._group_size == 1:
            self._pending.append(self._pending.pop(0))
        self._group_size = max(1, self._group_size // 2)

    async def _settle_group(self) -> None:
        group = self._pending[: self._group_size]
        try:
            accepted = await self._broker.settle(self._owner, group)
        except Exception as error:  # noqa: BLE001 - whatever the store raises, the outcomes must not be lost
            self._make_way()
            await asyncio.sleep(self._outage.failed(error))
            return
        self._outage.over()
        self._group_size = LARGEST_GROUP
        del self._pending[: len(group)]
        for settlement, ours in zip(group, accepted, strict=True):
            if not ours:
                _report_late(settlement)
        if not self._pending:
            self._news.clear()
            self._settled.set()


def _settlement(claim: Claim, outcome: Outcome) -> Settlement:
    match outcome:
        case Succeeded():
            return Ack(claim)
        case Failed(failure):
            return Bury(claim, failure)
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
