"""One place in the tree: keeps a child alive by policy, watches it, and replaces it without a gap."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from vtasks_supervisor.child import Child, Listener
from vtasks_supervisor.events import (
    Cause,
    ChildBeat,
    ChildDegraded,
    ChildExited,
    ChildHung,
    ChildReady,
    ChildRecovered,
    ChildSaid,
    Event,
    Exit,
)
from vtasks_supervisor.frames import Beat, Pause, Ready, Resume, Retiring, Said, Stop
from vtasks_supervisor.life import Life
from vtasks_supervisor.policy import History, Policy
from vtasks_supervisor.spec import ChildSpec

logger = logging.getLogger(__name__)

KILL_GRACE = 1.0
"""Seconds that a child has beyond its time to stop before it is killed."""
KILL_TIMEOUT = 5.0
"""Seconds until a killed child must be gone; it may be in a call of the kernel that no signal interrupts."""


class ChildState(NamedTuple):
    """What is known of one place; times are in seconds."""

    name: str
    state: str
    """starting, ready, stopping, waiting (for its next start), ended."""
    degraded: bool
    incarnation: int
    pid: int | None
    restarts: int
    up: float
    silent: float
    vitals: Mapping[str, Any]
    last_exit: Exit | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all places of a tree share."""

    make_child: Callable[[ChildSpec, int, Listener], Child]
    emit: Callable[[Event], None]
    clock: Callable[[], float]
    chance: Callable[[], float]
    policy: Policy


class Slot:
    """Runs one child of a spec after the other; ``before`` is how many there were in a former place of this name."""

    def __init__(self, spec: ChildSpec, surroundings: Surroundings, before: int = 0) -> None:
        self.spec = spec
        self.history = History()
        self.settled = asyncio.Event()
        """Set when the first child is ready, or gone."""
        self._around = surroundings
        policy = surroundings.policy
        self._policy = policy if spec.backoff is None else replace(policy, backoff=spec.backoff)
        self._current: Life | None = None
        self._successor: Life | None = None
        self._lives: set[Life] = set()
        self._succeeded = asyncio.Event()
        """Set when the current child is another, though the one before has not ended yet."""
        self._recycling = asyncio.Lock()
        self._stop: Stop | None = None
        self._stopped = asyncio.Event()
        self._hurried = asyncio.Event()
        self._paused = False
        self._before = before
        self.incarnations = before
        self._last_exit: Exit | None = None
        self._ended = False
        self._recycle_at = 0.0

    # The life of the place -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep a child until told to stop, or until the spec wants no other."""
        try:
            await self._start(self._make())
            while (life := self._current) is not None:
                self._succeeded.clear()
                await first_of(_done(life.child.exited), self._succeeded.wait())
                if life is self._current and life.exit is not None:
                    await self._follow(life.exit)
        finally:
            self._ended = True
            self.settled.set()

    async def stop(self, timeout: float) -> None:
        """Let the children finish within ``timeout`` seconds, and start no others; kill what stays."""
        self._stop = self._stop or Stop(timeout)
        self._stopped.set()
        for life in self._lives:
            self._tell_to_stop(life)
        await first_of(self._all_gone(), self._hurried.wait(), timeout=timeout + KILL_GRACE)
        if self._hurried.is_set():
            await first_of(self._all_gone(), timeout=KILL_GRACE)
        for life in self._lives:
            self._kill_disobedient(life)
        await first_of(self._all_gone(), timeout=KILL_TIMEOUT)

    def hurry(self) -> None:
        """Let the children stop at once; those that do not are killed after a moment."""
        self._stop = Stop(0.0, at_once=True)
        self._stopped.set()
        self._hurried.set()
        for life in self._lives:
            self._tell_to_stop(life)

    async def recycle(self, reason: str, newest: int) -> bool:
        """Replace the child by another one, which is ready first; return whether that happened.

        ``newest`` is the last incarnation of when this was wished for: a later one needs no other. A child that still
        starts is replaced when it is ready: it may have announced itself before we hear of it.
        """
        async with self._recycling:
            old = await self._started()
            if old is None or not old.works or old.child.incarnation > newest or self._stop is not None:
                return False
            logger.info("%s is replaced: %s", self.spec.name, reason)
            if not await self._raise_successor():
                return False
            self._tell_to_stop(old)
            await first_of(_done(old.child.exited), timeout=self.spec.stop_timeout + KILL_GRACE)
            if old.exit is None:
                self._kill_disobedient(old)
            return True

    def send(self, frame: Any) -> bool:
        """Send a frame to the child; False when there is none that could take it."""
        return self._current is not None and self._current.child.send(frame)

    def switch(self, *, paused: bool) -> None:
        """Let the children take no new work, or take it again; those that start are told when they are ready."""
        self._paused = paused
        for life in self._lives:
            if life.ready.is_set():
                life.child.send(Pause() if paused else Resume())

    def dump(self) -> None:
        """Let the child write its stacks, and log them a moment later."""
        if self._current is not None:
            child = self._current.child
            child.dump()
            asyncio.get_running_loop().call_later(
                self.spec.dump_grace, lambda: logger.warning("Stacks of %s:\n%s", self.spec.name, child.stacks())
            )

    @property
    def works(self) -> bool:
        """Tell whether there is a child that is ready."""
        return self._current is not None and self._current.works

    @property
    def pids(self) -> set[int]:
        """Return the processes of this place."""
        return {life.child.pid for life in self._lives if life.child.pid is not None}

    def _make(self) -> Life | None:
        """Return a new life, which is to be started; None when there shall be none."""
        if self._stop is not None:
            return None
        self.incarnations += 1
        child = self._around.make_child(self.spec, self.incarnations, self._listen)
        life = Life(child, self._around.clock(), self._around.chance())
        self._lives.add(life)
        child.exited.add_done_callback(lambda exited: self._note_exit(life, exited.result()))
        return life

    async def _start(self, life: Life | None) -> None:
        """Start a life, as the current one."""
        self._current = life
        if life is not None:
            await self._begin(life)

    async def _begin(self, life: Life) -> None:
        await life.child.start()
        if self._stopped.is_set():
            self._tell_to_stop(life)

    async def _started(self) -> Life | None:
        """Return the current child, once it is ready or known not to become so."""
        life = self._current
        if life is not None and not life.ready.is_set():
            patience = self.spec.start_timeout + self.spec.dump_grace + KILL_TIMEOUT
            await first_of(life.ready.wait(), _done(life.child.exited), timeout=patience)
        return self._current

    async def _raise_successor(self) -> bool:
        """Start a child that becomes the current one as soon as it is ready; return whether it did."""
        new = self._successor = self._make()
        if new is None:
            return False
        try:
            await self._begin(new)
            await first_of(new.ready.wait(), _done(new.child.exited))
        except Exception:
            logger.exception("The successor of %s cannot be started", self.spec.name)
        if self._successor is not new:
            return False  # the old one died, and this one has taken its place
        self._successor = None
        if not new.works:
            self._recycle_at = self._around.clock() + self._policy.backoff.longest
            return False
        self._current = new
        self._succeeded.set()
        return True

    async def _follow(self, exit_: Exit) -> None:
        """Let another child follow one that has ended, unless there shall be none."""
        successor, self._successor = self._successor, None
        if successor is not None and successor.exit is None:
            self._current = successor
        elif exit_.cause is Cause.UNSUITED:
            await self._start(self._make())
        elif self.spec.restart.wants(normal=exit_.cause is Cause.PLANNED):
            if exit_.cause is not Cause.PLANNED:
                await self._pause()
            await self._start(self._make())
        else:
            self._current = None

    async def _pause(self) -> None:
        delay = self._policy.backoff.delay(self.history.failures, self._around.chance())
        if delay:
            logger.info("%s is started again in %.1f s", self.spec.name, delay)
            await first_of(self._stopped.wait(), timeout=delay)

    async def _all_gone(self) -> None:
        if self._lives:
            await asyncio.wait([life.child.exited for life in self._lives])

    def _kill_disobedient(self, life: Life) -> None:
        logger.error("%s did not stop when it was told to and is killed", self.spec.name)
        life.stubborn = True
        life.child.kill()

    def _tell_to_stop(self, life: Life) -> None:
        life.stopping = True
        life.child.send(self._stop or Stop(self.spec.stop_timeout))

    # What children say ---------------------------------------------------------------------------------------

    def _listen(self, child: Child, frame: Any) -> None:
        life = next((life for life in self._lives if life.child is child), None)
        if life is None:
            return
        now = life.heard = self._around.clock()
        name, incarnation = self.spec.name, child.incarnation
        if isinstance(frame, Ready):
            self._note_ready(life, now)
        elif isinstance(frame, Beat):
            life.vitals = frame.vitals
            self._around.emit(ChildBeat(name=name, incarnation=incarnation, vitals=frame.vitals, lag=frame.lag))
        elif isinstance(frame, Said):
            self._around.emit(ChildSaid(name=name, incarnation=incarnation, message=frame.message))
        elif isinstance(frame, Retiring):
            life.retires = frame.reason

    def _note_ready(self, life: Life, now: float) -> None:
        life.ready.set()
        self.settled.set()
        self.history = self.history.ready(now)
        if self._paused:
            life.child.send(Pause())
        self._around.emit(
            ChildReady(
                name=self.spec.name, incarnation=life.child.incarnation, seconds=now - life.born, pid=life.child.pid
            )
        )

    def _note_exit(self, life: Life, exit_: Exit) -> None:
        self._lives.discard(life)
        self.settled.set()
        if life.hung:
            exit_ = replace(exit_, cause=Cause.HUNG)
        elif life.stubborn:
            exit_ = replace(exit_, cause=Cause.STUBBORN)
        self._last_exit = life.exit = exit_
        was_degraded = self.history.degraded_since is not None
        if exit_.cause in {Cause.PLANNED, Cause.UNSUITED}:
            self.history = self.history.ended() if life is self._current else self.history
        else:
            running = self.history.ready_since if life is not self._current else None
            history = self.history.failed(self._around.clock(), self._policy, worked=life.has_worked)
            self.history = replace(history, ready_since=running)
            logger.warning("%s ended: %s", self.spec.name, exit_.reason)
        self._around.emit(ChildExited(name=self.spec.name, incarnation=life.child.incarnation, exit=exit_))
        if self.history.degraded_since is not None and not was_degraded:
            logger.error("%s is degraded: it failed %d times", self.spec.name, len(self.history.recent))
            self._around.emit(
                ChildDegraded(
                    name=self.spec.name, incarnation=life.child.incarnation, failures=len(self.history.recent)
                )
            )

    # What time brings ----------------------------------------------------------------------------------------

    def forgive(self, seconds: float) -> None:
        """Do not hold against the children that this process stood still for a while."""
        for life in self._lives:
            life.forgive(seconds)

    def check(self) -> str | None:
        """Look after the children; return why the current one should be replaced, if it should."""
        now = self._around.clock()
        for life in self._lives:
            if (silent := life.overdue(now)) is not None:
                self._end_hung(life, silent)
        refreshed = self.history.refreshed(now, self._policy)
        if refreshed is not self.history:
            self.history = refreshed
            self._around.emit(ChildRecovered(name=self.spec.name, incarnation=self.incarnations))
        life_now = self._current
        if life_now is None or not life_now.works or life_now.stopping or now < self._recycle_at:
            return None
        return life_now.worn_out(now)

    def _end_hung(self, life: Life, silent: float) -> None:
        life.hung = True
        logger.error("%s gave no sign of life for %.0f s; its stacks follow when it is killed", self.spec.name, silent)
        self._around.emit(ChildHung(name=self.spec.name, incarnation=life.child.incarnation, silent=silent))
        life.child.dump()
        asyncio.get_running_loop().call_later(self.spec.dump_grace, life.child.kill)

    def state(self) -> ChildState:
        """Return what is known of this place."""
        life, now = self._current, self._around.clock()
        return ChildState(
            name=self.spec.name,
            state=self._word(life),
            degraded=self.history.degraded_since is not None,
            incarnation=self.incarnations,
            pid=life.child.pid if life is not None and life in self._lives else None,
            restarts=max(0, self.incarnations - self._before - 1),
            up=now - life.born if life is not None else 0.0,
            silent=now - life.heard if life is not None else 0.0,
            vitals=life.vitals if life is not None else {},
            last_exit=self._last_exit,
        )

    def _word(self, life: Life | None) -> str:
        if self._ended:
            return "ended"
        if life is None or life not in self._lives:
            return "waiting"
        if life.stopping:
            return "stopping"
        return "ready" if life.ready.is_set() else "starting"


async def _done(future: "asyncio.Future[Any]") -> None:
    await asyncio.wait({future})


async def first_of(*waits: Coroutine[Any, Any, object], timeout: float | None = None) -> None:
    """Return when one of the waits has ended, or after ``timeout`` seconds; cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
