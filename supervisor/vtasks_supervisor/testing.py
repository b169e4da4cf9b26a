"""Fakes for those who test what they build on this package: time, and children that do what a test says."""

import asyncio
import selectors
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from vtasks_supervisor.child import Child, Listener
from vtasks_supervisor.events import Cause, Exit
from vtasks_supervisor.frames import Beat, Frame, Ready, Retiring, Said, Stop
from vtasks_supervisor.spec import ChildSpec

KILLED = -9


class ManualClock:
    """Seconds that pass at once when nothing else is left to do: a wait of an hour takes none.

    Give it to a Supervisor as its ``clock``, and run the test on its loop, where there must be no real input, output
    or thread to wait for.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def jump(self, seconds: float) -> None:
        """Let time pass in which this process stands still, as a suspended one does."""
        self.now += seconds

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return a new loop that lives by this clock."""
        return _Loop(self)

    def run[T](self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on a loop that lives by this clock."""
        with asyncio.Runner(loop_factory=self.loop) as runner:
            return runner.run(main)


class FakeChild(Child):
    """A child that does nothing by itself, but leaves when it is told to unless it is not ``obedient``."""

    _pids: ClassVar[int] = 4_200_000  # above what Linux gives to processes

    def __init__(self, spec: ChildSpec, incarnation: int, listen: Listener) -> None:
        FakeChild._pids += 1
        self.spec = spec
        self.incarnation = incarnation
        self.pid: int | None = FakeChild._pids
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.started = asyncio.Event()
        self.received: list[Frame] = []
        self.obedient = True
        self.ready_at_once = False
        self.refusal: Exception | None = None
        """What start() raises."""
        self.kills = 0
        self.dumps = 0
        self.uss: int | None = None
        self._listen = listen

    # What a test does with it --------------------------------------------------------------------------------

    def become_ready(self, **facts: Any) -> None:
        """Say that the actor has started."""
        self._listen(self, Ready(facts))

    def beat(self, lag: float = 0.0, **vitals: Any) -> None:
        """Give a sign of life."""
        self._listen(self, Beat(vitals, lag, None))

    def say(self, message: object) -> None:
        """Send a message to the hook."""
        self._listen(self, Said(message))

    def retire(self, reason: str) -> None:
        """Ask for a successor."""
        self._listen(self, Retiring(reason))

    def exit(self, code: int = 0, *, cause: Cause | None = None, error: str = "", notes: Any = None) -> None:
        """End: as planned with code 0, else by a crash, unless the cause is another."""
        if not self.exited.done():
            cause = cause or (Cause.CRASHED if code else Cause.PLANNED)
            dump = "the stacks of a fake" if self.dumps else ""
            self.exited.set_result(Exit(cause=cause, code=code, error=error, dump=dump, notes=notes))

    def has(self, kind: type[Any]) -> bool:
        """Tell whether a frame of this kind has come."""
        return any(isinstance(frame, kind) for frame in self.received)

    # What a supervisor does with it --------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin, or refuse to."""
        if self.refusal is not None:
            self.exit(cause=Cause.NOT_STARTED, error=str(self.refusal))
            raise self.refusal
        self.started.set()
        if self.ready_at_once:
            self.become_ready()

    def send(self, frame: Any) -> bool:
        """Note a frame; leave when it says so."""
        if self.exited.done():
            return False
        self.received.append(frame)
        if isinstance(frame, Stop) and self.obedient:
            self.exit()
        return True

    def dump(self) -> None:
        """Count."""
        self.dumps += 1

    def stacks(self) -> str:
        """Return a word in place of stacks."""
        return "the stacks of a fake" if self.dumps else ""

    def kill(self) -> None:
        """End as by SIGKILL."""
        self.kills += 1
        self.exit(KILLED)

    def memory(self) -> int | None:
        """Return what the test has set."""
        return self.uss


class Nursery:
    """Makes FakeChildren for a Supervisor, as its ``make_child``; ``prepare`` gets each before it is started."""

    def __init__(self, *, ready_at_once: bool = False, prepare: Callable[[FakeChild], object] | None = None) -> None:
        self.ready_at_once = ready_at_once
        self.prepare = prepare
        self.children: list[FakeChild] = []
        self._made: defaultdict[tuple[str, int], asyncio.Event] = defaultdict(asyncio.Event)

    def __call__(self, spec: ChildSpec, incarnation: int, listen: Listener) -> FakeChild:
        """Make a child."""
        child = FakeChild(spec, incarnation, listen)
        child.ready_at_once = self.ready_at_once
        self.children.append(child)
        self._made[spec.name, len(self.of(spec.name))].set()
        if self.prepare is not None:
            self.prepare(child)
        return child

    def of(self, name: str) -> list[FakeChild]:
        """Return the children of a name so far."""
        return [child for child in self.children if child.spec.name == name]

    async def child(self, name: str, nth: int = 1) -> FakeChild:
        """Return the n-th child of a name, counted from 1, once it has been started."""
        await self._made[name, nth].wait()
        child = self.of(name)[nth - 1]
        await child.started.wait()
        return child


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        super().__init__(_Selector(clock))

    def time(self) -> float:
        return self._clock()


class _Selector(selectors.DefaultSelector):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Look, and let the time pass for which the loop would have waited."""
        events: list[tuple[selectors.SelectorKey, int]] = super().select(timeout and 0)
        if not events and timeout:
            self._clock.jump(timeout)
        return events
