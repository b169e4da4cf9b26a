"""Claims tasks that were running when an actor died, and starts them so that the culprit is found alone."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from django_vtasks.brokers.base import Broker, Claim, Owner
from django_vtasks.worker.fetcher import EMPTY_PAUSE
from django_vtasks.worker.outage import Outage
from django_vtasks.worker.reconcile import Reconciler
from django_vtasks.worker.slots import Slots

ALONE = 0.1
"""Seconds for which a suspect runs alone; most poison works at once. See docs/adr/0007."""
LONGEST_PAUSE = 2.0
"""Seconds between two empty claims beside a suspect that runs for long; the first pauses are shorter."""


class SuspectFetcher:
    """Does a Fetcher's duty for the suspects of a queue: one at a time.

    Each is alone for its first moment, and one whose next crash would be its last is alone throughout. ``unsettled``
    tells which have ended but are not settled.
    """

    def __init__(
        self, broker: Broker, owner: Owner, queue: str, slots: Slots, unsettled: Callable[[], Iterable[Claim]],
        start: Callable[[Claim], None], give_back: Callable[[list[Claim]], None],
    ) -> None:  # fmt: skip
        self._broker = broker
        self._owner = owner
        self._queue = queue
        self._slots = slots
        self._start = start
        self._give_back = give_back
        self._waiting: Claim | None = None
        self._running: dict[int, Claim] = {}
        self._reconciler = Reconciler(broker, owner, lambda: (*self._running.values(), *unsettled()))
        self._ended = asyncio.Event()
        self._outage = Outage(f"claim suspect tasks of queue {queue}")
        self._pause = 0.0
        self.empty_claims = 0
        self.taken = 0

    async def run(self) -> None:
        """Claim until cancelled."""
        while True:
            await self._until_running(self._slots.limit - 1)
            try:
                await self._reconciler.look()
                claims = await self._broker.claim(self._owner, self._queue, 1, suspects=True)
            except Exception as error:  # noqa: BLE001 - whatever the store raises, the actor comes back by itself
                self._reconciler.look_soon()
                await asyncio.sleep(self._outage.failed(error))
                continue
            self._outage.over()
            if claims:
                await self._run(claims[0])
            else:
                self.empty_claims += 1
                await self._rest()

    def ended(self, claim: Claim) -> None:
        """Note that a started claim has ended; whether it was the last one is asked anew."""
        self._running.pop(id(claim), None)
        self.empty_claims = 0
        self._ended.set()

    def give_up(self) -> None:
        """Give back the claim that has not started."""
        if self._waiting is not None:
            claim, self._waiting = self._waiting, None
            self._give_back([claim])

    @property
    def running(self) -> list[Claim]:
        """Return the claims that have started and not ended."""
        return list(self._running.values())

    async def _rest(self) -> None:
        """Pause after an empty claim: ever longer while something runs, but not beyond an end."""
        if not self._running:
            await asyncio.sleep(EMPTY_PAUSE)
            return
        self._pause = min(LONGEST_PAUSE, 2 * self._pause or EMPTY_PAUSE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause):
                await self._next_end()
                self._pause = 0.0

    async def _run(self, claim: Claim) -> None:
        self._pause = 0.0
        self.empty_claims = 0
        self.taken += 1
        self._slots.take(1)
        self._waiting = claim
        last_chance = claim.envelope.crashes >= claim.envelope.max_rescues
        if last_chance:
            await self._until_running(0)
        self._waiting = None
        self._running[id(claim)] = claim
        self._start(claim)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if last_chance else ALONE):
                while id(claim) in self._running:
                    await self._next_end()

    async def _until_running(self, most: int) -> None:
        """Return when at most so many claims run."""
        while len(self._running) > most:
            await self._next_end()

    async def _next_end(self) -> None:
        self._ended.clear()
        await self._ended.wait()
