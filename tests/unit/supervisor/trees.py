"""Trees of fakes in a time of their own, and what is heard of them."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from vtasks_supervisor.actor import Actor
from vtasks_supervisor.events import Event
from vtasks_supervisor.policy import Policy
from vtasks_supervisor.spec import ChildSpec, Place
from vtasks_supervisor.supervisor import Supervisor
from vtasks_supervisor.testing import FakeChild, ManualClock, Nursery

CLOCK: ContextVar[ManualClock] = ContextVar("clock")


def in_its_own_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on the loop of a ManualClock: its waits take no time."""

    @functools.wraps(test)
    def played(*arguments: Any, **fixtures: Any) -> None:
        clock = ManualClock()
        CLOCK.set(clock)
        clock.run(test(*arguments, **fixtures))

    return played


def a_spec(name: str = "worker", **fields: Any) -> ChildSpec:
    return ChildSpec(name=name, make=Actor, place=Place.TASK, **fields)


class Tree:
    """A Supervisor of FakeChildren that runs."""

    def __init__(self, *specs: ChildSpec, nursery: Nursery | None = None, **options: Any) -> None:
        self.clock = CLOCK.get()
        self.nursery = nursery or Nursery()
        self.heard: list[Event] = []
        self.supervisor = Supervisor(
            specs,
            hook=options.pop("hook", self.heard.append),
            policy=options.pop("policy", Policy()),
            clock=self.clock,
            chance=lambda: 0.5,
            make_child=self.nursery,
            **options,
        )
        self.running: asyncio.Task[None] | None = None

    def run(self) -> "asyncio.Task[None]":
        self.running = asyncio.create_task(self.supervisor.run())
        return self.running

    async def child(self, name: str = "worker", nth: int = 1) -> FakeChild:
        """Return the n-th child of a name; fail when there is none within an hour."""
        async with asyncio.timeout(3600):
            return await self.nursery.child(name, nth)

    async def ready_child(self, name: str = "worker", nth: int = 1) -> FakeChild:
        child = await self.child(name, nth)
        child.become_ready()
        return child

    async def until(self, probe: Callable[[], object], within: float = 3600.0) -> None:
        """Let time pass until something is so."""
        deadline = self.clock() + within
        while not probe():
            assert self.clock() < deadline, f"not within {within:g} s"
            await asyncio.sleep(0.01)

    async def ends(self, within: float = 3600.0) -> None:
        """Return when the tree has ended, or raise what it raises."""
        assert self.running is not None
        async with asyncio.timeout(within):
            await self.running

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.heard if isinstance(event, kind)]

    def state(self, name: str = "worker") -> Any:
        return next(state for state in self.supervisor.states if state.name == name)


@asynccontextmanager
async def a_tree(*specs: ChildSpec, **options: Any) -> AsyncIterator[Tree]:
    """Give a tree that runs and is stopped in the end."""
    tree = Tree(*specs, **options)
    running = tree.run()
    try:
        yield tree
    finally:
        for child in tree.nursery.children:
            child.obedient = True
        tree.supervisor.stop()
        await asyncio.wait({running})
