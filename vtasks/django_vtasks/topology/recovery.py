"""An actor has died: hand back exactly its tasks, and let those that may have killed it run apart."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection

from django_vtasks import observers
from django_vtasks.brokers.base import Coordinator, Death, Owner
from django_vtasks.topology import capacity
from django_vtasks.worker.flight import running_ids
from django_vtasks.worker.outage import Outage
from vtasks_supervisor.events import Cause, Exit

logger = logging.getLogger(__name__)

KILLED = -9
LATE = (15.0, 135.0)
"""Seconds after which a store has given up, or has done, whatever a dead actor had asked of it; and after that, the
kernel: over a line that loses packets, Linux sends again for about 100 s what a process has written that is no more."""

TOLD_WITHIN = 5.0
"""Seconds within which the ends of all whom the kernel has killed at once are told."""


class _KillsForMemory:
    """What the kernel has killed for want of memory: each explains one end, which is told soon."""

    def __init__(self) -> None:
        self._seen = capacity.oom_kills()
        self._unexplained = 0
        self._until = 0.0

    def explain(self, exit_: Exit) -> bool:
        """Tell whether one of them explains an end, and count it as told."""
        before, self._seen = self._seen, capacity.oom_kills()
        if exit_.code != KILLED or exit_.cause is not Cause.CRASHED or before is None or self._seen is None:
            return False
        now = time.monotonic()
        if now > self._until:
            self._unexplained = 0
        if self._seen > before:
            self._unexplained += self._seen - before
            self._until = now + TOLD_WITHIN
        if not self._unexplained:
            return False
        self._unexplained -= 1
        return True


class Recovery:
    """Reclaims on threads beside the loop, until the store has answered.

    ``on_suspects`` is called on the loop with the queues that have any.
    """

    def __init__(self, coordinator: Coordinator, node: str, on_suspects: Callable[[Collection[str]], object]) -> None:
        self._coordinator = coordinator
        self._node = node
        self._on_suspects = on_suspects
        self._loop = asyncio.get_running_loop()
        self._under_way: set[asyncio.Task[None]] = set()
        self._later: set[asyncio.Task[None]] = set()
        self._outage = Outage("hand back the tasks of an actor that died")
        self._kills_for_memory = _KillsForMemory()

    def ended(self, slot: str, incarnation: int, exit_: Exit) -> None:
        """Hand back what an actor held, and blame what it was running, unless it ended because it was told to."""
        running = None if exit_.notes is None else running_ids(exit_.notes)
        if exit_.cause in {Cause.PLANNED, Cause.STUBBORN}:
            running = frozenset()
        death = Death(self._cause(slot, exit_), running, exit_.dump or exit_.traceback)
        task = asyncio.create_task(self._reclaim(Owner(self._node, slot, incarnation), death))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def wait(self, timeout: float) -> bool:
        """Return whether all that is under way is done within ``timeout`` seconds."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=timeout)
        return not self._under_way

    async def finish(self, timeout: float) -> None:
        """Give up what is not done within ``timeout`` seconds: the end of the lease gives the tasks back."""
        await self.wait(timeout)
        for task in (*self._under_way, *self._later):
            task.cancel()

    def look_for_suspects(self) -> dict[str, int]:
        """Ask the store how many there are, by queue; called on a thread."""
        if queues := self._coordinator.suspects():
            self.on_loop(lambda: self._on_suspects(queues))
        return queues

    def on_loop(self, callback: Callable[[], object]) -> None:
        """Call something on the loop, from a thread; not when the loop is closed, and nobody is interested any more."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    async def _reclaim(self, owner: Owner, death: Death) -> None:
        reclaimed = await self._until_answered(lambda: self._coordinator.reclaim(owner, death))
        observers.rescued(reclaimed, observers.ACTOR_DIED)
        if reclaimed.returned or reclaimed.buried:
            logger.warning(
                "Took back %d tasks of %s, which ended: %s; %d failed for good",
                len(reclaimed.returned) + len(reclaimed.buried), owner.slot, death.cause, len(reclaimed.buried),
            )  # fmt: skip
            await self._until_answered(self.look_for_suspects)
        later = asyncio.create_task(self._reclaim_late(owner, Death(death.cause, frozenset())))
        self._later.add(later)
        later.add_done_callback(self._later.discard)

    async def _reclaim_late(self, owner: Owner, death: Death) -> None:
        """Look again: the store may have been slow to obey the last claim that the actor sent, or to hear of it."""
        for seconds in LATE:
            await asyncio.sleep(seconds)
            late = await self._until_answered(lambda: self._coordinator.reclaim(owner, death))
            observers.rescued(late, observers.ACTOR_DIED)

    async def _until_answered[T](self, call: Callable[[], T]) -> T:
        """Ask the store on a thread, again and again."""
        while True:
            try:
                answer = await asyncio.to_thread(call)
            except Exception as error:  # noqa: BLE001 - whatever the store raises, the tasks must come back
                await asyncio.sleep(self._outage.failed(error))
            else:
                self._outage.over()
                return answer

    def _cause(self, slot: str, exit_: Exit) -> str:
        cause = f"Actor {slot} ended: {exit_.reason}"
        if self._kills_for_memory.explain(exit_):
            cause += ", out of memory"
        return cause if exit_.peak_memory is None else f"{cause}, peak memory {exit_.peak_memory / 1e6:.0f} MB"
