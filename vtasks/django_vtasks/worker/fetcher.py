"""Takes free slots first, then claims for them."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from django_vtasks.brokers.base import Broker, Claim, Owner
from django_vtasks.errors import LeaseLost
from django_vtasks.worker.outage import Outage
from django_vtasks.worker.reconcile import Reconciler
from django_vtasks.worker.slots import Slots
from django_vtasks.worker.timing import ClaimTimer

WAIT = 30.0
"""Seconds that one idle claim waits for work."""
EMPTY_PAUSE = 0.02
"""Seconds between two empty claims of a burst."""
FEW = 2
"""Claims that start before the next claim is sent: where there is not much to do, it is latency that counts."""
PATIENCE = 1.0
"""Seconds that a claim may wait here for a slot, while another actor may be idle."""


class Fetcher:
    """Keep an actor supplied: claim up to the room there is, start what may run, keep the rest at hand.

    ``start`` runs a claim, ``give_back`` returns claims to the store, ``unsettled`` tells which have ended but are not
    settled. ``empty_claims`` counts how often in a row nothing was there, ``taken`` all claims ever.
    """

    def __init__(
        self,
        broker: Broker,
        owner: Owner,
        queue: str,
        slots: Slots,
        unsettled: Callable[[], Iterable[Claim]],
        start: Callable[[Claim], None],
        give_back: Callable[[list[Claim]], None],
        *,
        wait: float = WAIT,
    ) -> None:
        self._broker = broker
        self._owner = owner
        self._queue = queue
        self._slots = slots
        self._start = start
        self._give_back = give_back
        self._wait = wait
        self._ready: deque[Claim] = deque()
        self._running: dict[int, Claim] = {}
        self._reconciler = Reconciler(broker, owner, lambda: (*self._ready, *self._running.values(), *unsettled()))
        self._pumping = False
        self._outage = Outage(f"claim tasks of queue {queue}")
        self._shedding: asyncio.TimerHandle | None = None
        self._timer = ClaimTimer(queue)
        self.empty_claims = 0
        self.taken = 0

    async def run(self) -> None:
        """Claim until cancelled."""
        while True:
            await self._slots.wait_for_room()
            try:
                await self._reconciler.look()
                room = self._slots.room
                self._timer.begin()
                claims = await self._broker.claim(self._owner, self._queue, room, wait=self._wait)
            except Exception as error:  # noqa: BLE001 - whatever the store raises, the actor comes back by itself
                self._timer.failed()
                self._reconciler.look_soon()
                if isinstance(error, LeaseLost):
                    self.give_up()  # what has not started runs elsewhere
                await asyncio.sleep(self._outage.failed(error))
                continue
            self._timer.end(claims, room)
            self._outage.over()
            self.empty_claims = 0 if claims else self.empty_claims + 1
            self.taken += len(claims)
            self._slots.take(len(claims))
            self._ready.extend(claims)
            if len(claims) <= FEW:
                self._pump()
            else:
                self._pump_soon()
            if not claims and not self._wait:
                await asyncio.sleep(EMPTY_PAUSE)

    def ended(self, claim: Claim) -> None:
        """Note that a started claim has ended; the next one at hand may start."""
        self._running.pop(id(claim), None)
        if self._ready:
            self._pump_soon()

    def give_up(self) -> None:
        """Give back the claims at hand that have not started."""
        unstarted = list(self._ready)
        self._ready.clear()
        self._give_back(unstarted)

    @property
    def running(self) -> list[Claim]:
        """Return the claims that have started and not ended."""
        return list(self._running.values())

    def _pump_soon(self) -> None:
        """Start tasks after the next claim is on its way, so that both go on at once."""
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        while self._ready and len(self._running) < self._slots.limit:
            claim = self._ready.popleft()
            self._running[id(claim)] = claim
            self._start(claim)
        self._watch_oldest()

    def _watch_oldest(self) -> None:
        if self._ready and self._shedding is None:
            oldest = self._ready[0]
            self._shedding = asyncio.get_running_loop().call_later(PATIENCE, self._shed, oldest)

    def _shed(self, oldest: Claim) -> None:
        """Give back what waits behind tasks that turned out to be long."""
        self._shedding = None
        if self._ready and self._ready[0] is oldest:
            self._slots.slow_down()
            self.give_up()
        self._watch_oldest()
