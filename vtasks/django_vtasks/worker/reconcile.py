"""Finds what the store books on an owner although it never arrived there."""

import asyncio
from collections.abc import Callable, Iterable

from django_vtasks.brokers.base import Broker, Claim, Owner

EVERY = 15.0
"""Seconds between two looks."""


class Reconciler:
    """Give back what the store books on ``owner`` beyond what is ``held``; to be asked before each claim."""

    def __init__(self, broker: Broker, owner: Owner, held: Callable[[], Iterable[Claim]]) -> None:
        self._broker = broker
        self._owner = owner
        self._held = held
        self._due = 0.0

    def look_soon(self) -> None:
        """Look the next time: an answer may have been lost after the store had booked tasks."""
        self._due = 0.0

    async def look(self) -> None:
        """Look, if it is time."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._due:
            return
        await self._broker.keep_only(self._owner, {claim.receipt for claim in self._held()})
        self._due = loop.time() + EVERY
