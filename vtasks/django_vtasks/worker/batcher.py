"""Claims → batches: collects the tasks of a batch queue until there are enough, or until the first has waited."""

import asyncio
from collections.abc import Callable, Iterable

from django_vtasks.brokers.base import Broker, Claim, Owner
from django_vtasks.errors import LeaseLost
from django_vtasks.worker.fetcher import EMPTY_PAUSE, PATIENCE, WAIT
from django_vtasks.worker.outage import Outage
from django_vtasks.worker.reconcile import Reconciler
from django_vtasks.worker.slots import Slots
from django_vtasks.worker.timing import ClaimTimer


class Batcher:
    """Does a Fetcher's duty for a batch queue: one batch runs, while the next is collected.

    A batch starts when it has as many members as there are slots, or ``timeout`` seconds after its first member has
    come, unless another runs then. ``start`` runs a batch, ``give_back`` returns claims to the store, ``unsettled``
    tells which have ended but are not settled.
    """

    def __init__(
        self,
        broker: Broker,
        owner: Owner,
        queue: str,
        slots: Slots,
        timeout: float,
        unsettled: Callable[[], Iterable[Claim]],
        start: Callable[[list[Claim]], None],
        give_back: Callable[[list[Claim]], None],
        *,
        wait: float = WAIT,
    ) -> None:
        self._broker = broker
        self._owner = owner
        self._queue = queue
        self._slots = slots
        self._timeout = timeout
        self._start = start
        self._give_back = give_back
        self._wait = wait
        self._reconciler = Reconciler(broker, owner, lambda: (*self._members, *self._running.values(), *unsettled()))
        self._members: list[Claim] = []
        self._running: dict[int, Claim] = {}
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._shedding: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._finishing = False
        self._outage = Outage(f"claim tasks of queue {queue}")
        self._claims = ClaimTimer(queue)
        self.empty_claims = 0
        self.taken = 0

    async def run(self) -> None:
        """Claim until cancelled."""
        while True:
            room = await self._until_there_is_room()
            try:
                await self._reconciler.look()
                self._claims.begin()
                claims = await self._broker.claim(self._owner, self._queue, room, wait=self._wait)
            except Exception as error:  # noqa: BLE001 - whatever the store raises, the actor comes back by itself
                self._claims.failed()
                self._reconciler.look_soon()
                if isinstance(error, LeaseLost):
                    self.give_up()  # what has not started runs elsewhere
                await asyncio.sleep(self._outage.failed(error))
                continue
            self._claims.end(claims, room)
            self._outage.over()
            self.empty_claims = 0 if claims else self.empty_claims + 1
            if claims:
                self._add(claims)
            elif not self._wait:
                self._hasten()  # a burst: nothing that would fill the batch is coming
                await asyncio.sleep(EMPTY_PAUSE)

    def ended(self, claim: Claim) -> None:
        """Note that a started claim has ended; after the last one the next batch may start."""
        self._running.pop(id(claim), None)
        if not self._running:
            self._changed.set()
            self._start_if_due()

    def finish(self) -> None:
        """Let what has been collected run as soon as it can, even behind a long batch: no other is to come."""
        self._finishing = True
        if self._shedding is not None:
            self._shedding.cancel()
        self._hasten()

    def give_up(self) -> None:
        """Give back the members of the batch that has not started."""
        self._give_back(self._take_members())

    @property
    def running(self) -> list[Claim]:
        """Return the claims that have started and not ended."""
        return list(self._running.values())

    @property
    def _room(self) -> int:
        """Return how many members the next batch lacks; beside a batch that runs for long, there is none."""
        most = min(self._slots.limit, self._slots.ahead) if self._running else self._slots.limit
        return max(0, most - len(self._members))

    def _hasten(self) -> None:
        self._due = 0.0
        self._start_if_due()

    async def _until_there_is_room(self) -> int:
        while not (room := self._room):
            self._changed.clear()
            await self._changed.wait()
        return room

    def _add(self, claims: list[Claim]) -> None:
        self.taken += len(claims)
        self._slots.take(len(claims))
        if not self._members:
            self._due = asyncio.get_running_loop().time() + self._timeout
            # The timer itself says that it is time: that of uvloop may ring half a millisecond early.
            self._timer = asyncio.get_running_loop().call_at(self._due, self._hasten)
        self._members += claims
        self._start_if_due()

    def _start_if_due(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._members or (len(self._members) < self._slots.limit and now < self._due):
            return
        if self._running:
            if not self._finishing:
                self._shedding = self._shedding or asyncio.get_running_loop().call_at(now + PATIENCE, self._shed)
            return
        members = self._take_members()
        self._running = {id(claim): claim for claim in members}
        # After the next claim is on its way, so that both go on at once.
        asyncio.get_running_loop().call_soon(self._start, members)

    def _shed(self) -> None:
        """Give back what waits behind a batch that turned out to be long: another actor may be idle."""
        self._slots.slow_down()
        self.give_up()

    def _take_members(self) -> list[Claim]:
        members, self._members = self._members, []
        for timer in (self._timer, self._shedding):
            if timer is not None:
                timer.cancel()
        self._timer = self._shedding = None
        self._changed.set()
        return members
