"""What the duties of an actor are tried on: claims, a broker in trouble, an observer that keeps what it hears."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django_vtasks.brokers.base import Claim, Owner
from django_vtasks.brokers.memory import MemoryBroker
from django_vtasks.envelope import Envelope
from django_vtasks.errors import UnknownTask
from django_vtasks.results import AnyTask
from tests.contract.given import a_task
from tests.workapp import tasks as workapp

OWNER = Owner("north", "mail#1")
PATIENCE = 10.0


async def soon[T](probe: Callable[[], T], within: float = PATIENCE) -> T:
    """Return the probe's first true answer, looked at between the turns of the loop."""
    deadline = time.monotonic() + within
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"not within {within:g} s"
        await asyncio.sleep(0.001)
    return answer


async def turns(count: int = 20) -> None:
    """Let everything that can go on at once do so."""
    for _ in range(count):
        await asyncio.sleep(0)


def a_claim(*args: Any, task: str = "demo.tasks.send", problem: str | None = None, **fields: Any) -> Claim:
    envelope = a_task(*args, **fields)
    named = Envelope(**{name: getattr(envelope, name) for name in envelope.__struct_fields__} | {"task": task})
    return Claim(named, OWNER, receipt=envelope.id, problem=problem)


def a_broker() -> "TroubledBroker":
    """Return a broker on which OWNER's node has a lease."""
    broker = TroubledBroker()
    broker.renew(OWNER.node, 3600.0)
    return broker


class TroubledBroker(MemoryBroker):
    """The calls named in `trouble` raise; `lost` says whose answers get lost after the call has done its work."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: dict[str, Exception] = {}
        self.lost: dict[str, Exception] = {}
        self.claims: list[int] = []
        self.settled: list[list[Any]] = []
        self.kept: list[set[Any]] = []

    async def claim(self, owner, queue, limit, *, wait=0.0, suspects=False):
        self.claims.append(limit)
        call = super().claim(owner, queue, limit, wait=wait, suspects=suspects)
        return self._answer("claim", await self._do("claim", call))

    async def settle(self, owner, settlements):
        self.settled.append(list(settlements))
        return self._answer("settle", await self._do("settle", super().settle(owner, settlements)))

    async def keep_only(self, owner, held):
        self.kept.append(set(held))
        return self._answer("keep_only", await self._do("keep_only", super().keep_only(owner, held)))

    async def _do(self, name, call):
        if error := self.trouble.get(name):
            call.close()
            raise error
        return await call

    def _answer(self, name, answer):
        if error := self.lost.pop(name, None):
            raise error
        return answer


class Registered:
    """A registry of the tasks that it is given, by name."""

    def __init__(self, **tasks: AnyTask) -> None:
        self._tasks = tasks

    def find(self, path: str) -> AnyTask:
        if path not in self._tasks:
            raise UnknownTask(f"No task {path!r}")
        return self._tasks[path]


def as_task(function: Callable[..., Any], *, takes_context: bool = False) -> AnyTask:
    """Return a task whose function may be a closure of the test, which no project could enqueue."""
    task = replace(workapp.note)
    object.__setattr__(task, "func", function)
    object.__setattr__(task, "takes_context", takes_context)
    return task


class SilentObserver:
    """Keeps who started and who ended, and with what; `on_start` and `on_end` act as receivers do."""

    def __init__(self, *, on_start: Any = None, on_end: Any = None) -> None:
        self.starts: list[Any] = []
        self.ends: list[tuple[Any, Any]] = []
        self.rejects: list[tuple[Claim, Any]] = []
        self.on_start = on_start
        self.on_end = on_end

    def tells_of_start(self) -> bool:
        return True

    def tells_of_end(self, run: Any) -> bool:
        return True

    def tells_of_success(self) -> bool:
        return True

    def start_needs_loop(self) -> bool:
        return self.on_start is not None

    def finish_needs_loop(self) -> bool:
        return self.on_end is not None

    def started(self, run: Any) -> None:
        self.starts.append(run)

    def finished(self, run: Any, value: Any) -> None:
        self.ends.append((run, value))

    async def astarted(self, runs: Any) -> None:
        await self.on_start()
        for run in runs:
            self.started(run)

    async def afinished(self, ends: Any) -> None:
        await self.on_end()
        for run, value, _ in ends:
            self.finished(run, value)

    def rejected(self, claim: Claim, failure: Any) -> None:
        self.rejects.append((claim, failure))
