"""Starts children in order, restarts them by policy, drains them in reverse order, and knows when to give up."""

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from vtasks_supervisor import orphans
from vtasks_supervisor.child import Child, Listener
from vtasks_supervisor.errors import SpecError, TreeFailed
from vtasks_supervisor.events import ChildReady, Event, Hook, TreeReady, TreeStopping
from vtasks_supervisor.frames import Tell
from vtasks_supervisor.launcher import Launcher
from vtasks_supervisor.policy import Policy
from vtasks_supervisor.process_child import ProcessChild
from vtasks_supervisor.slot import ChildState, Slot, Surroundings, first_of
from vtasks_supervisor.spec import ChildSpec, Place
from vtasks_supervisor.task_child import TaskChild

logger = logging.getLogger(__name__)

SHORTEST_TICK, LONGEST_TICK = 0.1, 2.0
"""Seconds between two looks after all children: a tenth of the shortest time-out, within these limits."""
STANDSTILL = 1.0
"""Seconds by which a look must be late to say that this process itself stood still."""
START_PATIENCE = 1.0
"""Seconds for which the start of one child may hold up the next."""
LAST_STAGE_TIMEOUT = 1.0
"""Seconds that a stage has at least, however long those before it took."""


class Supervisor:
    """A tree of one level, one_for_one: what happens to one child is nothing to the others.

    ``hook`` is called on the loop with each event; it must not block. ``reaps`` makes this process the parent of what
    its children leave behind: only for a process that is all the supervisor's.
    """

    def __init__(
        self,
        specs: Iterable[ChildSpec],
        *,
        hook: Hook | None = None,
        launcher: Launcher | None = None,
        policy: Policy = Policy(),  # noqa: B008 - frozen
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        make_child: Callable[[ChildSpec, int, Listener], Child] | None = None,
        reaps: bool = False,
    ) -> None:
        self._hook = hook
        self._launcher = launcher or Launcher()
        self._policy = policy
        self._clock = clock
        self._reaps = reaps
        self._around = Surroundings(
            make_child=make_child or self._make_child,
            emit=self._emit,
            clock=clock,
            chance=chance,
            policy=policy,
        )
        self._slots: dict[str, Slot] = {}
        self._incarnations: dict[str, int] = {}
        """How many children there were in places that are no more, by name: no two ever have the same number."""
        self._running: dict[asyncio.Task[None], Slot] = {}
        self._replacing: set[asyncio.Task[bool]] = set()
        self._stopping = asyncio.Event()
        self._is_started = False
        self._hurried = False
        self._paused = False
        self._ready: set[str] | None = set()
        self._failure: BaseException | None = None
        for spec in sorted(specs, key=lambda spec: spec.stage):
            self._add(spec)

    # From outside --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the tree until stop(), or until nothing in it wants to run; raise TreeFailed when nothing can."""
        if self._reaps:
            orphans.adopt()
        ticking = asyncio.create_task(self._tick())
        try:
            await self._start_in_order()
            await self._stopping.wait()
        finally:
            await self._stop_in_reverse()
            ticking.cancel()
            for task in (*self._replacing, *self._running):
                task.cancel()
        if self._failure is not None:
            raise self._failure

    def stop(self, *, at_once: bool = False) -> None:
        """Drain the tree, or with ``at_once`` let everything go now."""
        self._stopping.set()
        if at_once and not self._hurried:
            self._hurried = True
            for slot in self._slots.values():
                slot.hurry()

    def add(self, spec: ChildSpec) -> bool:
        """Start another child; False when there is one of that name, or the tree is stopping."""
        if spec.name in self._slots or self._stopping.is_set():
            return False
        self._add(spec)
        if self._is_started:
            self._start(self._slots[spec.name])
        return True

    def tell(self, name: str, message: object) -> bool:
        """Put a message into a child's mailbox; False when there is none that could take it."""
        return name in self._slots and self._slots[name].send(Tell(message))

    def pause(self) -> None:
        """Let the children take no new work."""
        self._paused = True
        for slot in self._slots.values():
            slot.switch(paused=True)

    def resume(self) -> None:
        """Let the children take new work again."""
        self._paused = False
        for slot in self._slots.values():
            slot.switch(paused=False)

    def replace_all(self, reason: str) -> None:
        """Replace one child after the other; those that still start come last, as they are waited for."""
        slots = sorted(self._slots.values(), key=lambda slot: not slot.works)
        self._keep(self._replace({slot: slot.incarnations for slot in slots}, reason))

    def replace(self, name: str, reason: str) -> None:
        """Replace one child."""
        slot = self._slots[name]
        self._keep(slot.recycle(reason, slot.incarnations))

    def dump(self) -> None:
        """Log the stacks of all children."""
        for slot in self._slots.values():
            slot.dump()

    @property
    def states(self) -> list[ChildState]:
        """Return what is known of each place, in order of start; may be called on any thread."""
        return [slot.state() for slot in list(self._slots.values())]

    async def until_stopping(self, *others: Coroutine[Any, Any, object]) -> None:
        """Return when the tree has been told to stop, or one of the other waits has ended."""
        await first_of(self._stopping.wait(), *others)

    @property
    def is_stopping(self) -> bool:
        """Tell whether the tree drains."""
        return self._stopping.is_set()

    # Start and stop ------------------------------------------------------------------------------------------

    def _add(self, spec: ChildSpec) -> None:
        if spec.name in self._slots:
            raise SpecError(f"There are two children of the name {spec.name!r}.")
        slot = self._slots[spec.name] = Slot(spec, self._around, self._incarnations.get(spec.name, 0))
        if self._paused:
            slot.switch(paused=True)

    def _start(self, slot: Slot) -> None:
        task = asyncio.create_task(slot.run())
        self._running[task] = slot
        task.add_done_callback(self._note_end)

    async def _start_in_order(self) -> None:
        self._is_started = True
        for slot in list(self._slots.values()):
            if self._stopping.is_set():
                return
            self._start(slot)
            await first_of(slot.settled.wait(), self._stopping.wait(), timeout=START_PATIENCE)

    async def _stop_in_reverse(self) -> None:
        self._stopping.set()
        self._emit(TreeStopping())
        now = self._clock()
        deadline = now + max((slot.spec.stop_timeout for slot in self._slots.values()), default=0.0)
        stages = itertools.groupby(
            sorted(self._slots.values(), key=lambda slot: -slot.spec.stage), key=lambda slot: slot.spec.stage
        )
        for _, stage in stages:
            left = max(deadline - self._clock(), LAST_STAGE_TIMEOUT)
            await asyncio.gather(*(self._stop_slot(slot, min(left, slot.spec.stop_timeout)) for slot in stage))

    async def _stop_slot(self, slot: Slot, timeout: float) -> None:
        if self._hurried:
            slot.hurry()
        await slot.stop(timeout)

    def _note_end(self, task: "asyncio.Task[None]") -> None:
        slot = self._running.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
        left = [other for other in self._slots.values() if other is not slot]
        if not left or (slot.spec.significant and not any(other.spec.significant for other in left)):
            self._stopping.set()
        elif not self._stopping.is_set():
            # Its place is free for another of the name.
            del self._slots[slot.spec.name]
            self._incarnations[slot.spec.name] = slot.incarnations
            self._note_tree()

    def _make_child(self, spec: ChildSpec, incarnation: int, listen: Listener) -> Child:
        if spec.place is Place.TASK:
            return TaskChild(spec, incarnation, listen)
        return ProcessChild(spec, incarnation, listen, self._launcher)

    # What time brings ----------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            due = self._clock() + self._pause()
            await asyncio.sleep(max(0.0, due - self._clock()))
            late = self._clock() - due
            if late > STANDSTILL:
                # This process stood still: a suspended laptop, SIGSTOP, a frozen container.
                for slot in self._slots.values():
                    slot.forgive(late)
            try:
                self._look_after_children()
            except Exception:
                logger.exception("Could not look after all children")

    def _pause(self) -> float:
        specs = [slot.spec for slot in self._slots.values()]
        shortest = min((min(spec.start_timeout, spec.liveness_timeout) for spec in specs), default=LONGEST_TICK * 10)
        return min(LONGEST_TICK, max(SHORTEST_TICK, shortest / 10))

    def _look_after_children(self) -> None:
        for slot in list(self._slots.values()):
            worn_out = slot.check()
            if worn_out and not self._replacing:
                self._keep(slot.recycle(worn_out, slot.incarnations))
        if self._reaps:
            orphans.reap(set().union(*(slot.pids for slot in self._slots.values())))
        verdict = self._policy.escalation.verdict((slot.history for slot in self._slots.values()), self._clock())
        if verdict and not self._stopping.is_set():
            logger.critical("The tree gives up: %s", verdict)
            self._fail(TreeFailed(verdict))

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._stopping.set()

    async def _replace(self, newest: Mapping[Slot, int], reason: str) -> bool:
        return all([await slot.recycle(reason, number) for slot, number in newest.items()])

    def _keep(self, replacing: Coroutine[Any, Any, bool]) -> None:
        task = asyncio.create_task(replacing)
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    def _emit(self, event: Event) -> None:
        try:
            if self._hook is not None:
                self._hook(event)
        except Exception:
            logger.exception("The hook failed on %r", event)
        if self._ready is not None and isinstance(event, ChildReady):
            self._ready.add(event.name)
            self._note_tree()

    def _note_tree(self) -> None:
        """Tell when every place has been ready once, apart from those whose child has ended for good."""
        if self._ready is not None and self._ready >= self._slots.keys():
            self._ready = None
            self._emit(TreeReady())
