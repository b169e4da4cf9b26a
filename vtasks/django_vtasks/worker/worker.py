"""One actor of one queue: fetcher, executor and completer around its slots."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple

from django_vtasks.brokers.base import Broker, Claim, Owner
from django_vtasks.conf import Batch
from django_vtasks.observers import Observer
from django_vtasks.worker.batch_executor import BatchExecutor
from django_vtasks.worker.batcher import Batcher
from django_vtasks.worker.completer import LARGEST_GROUP, Completer
from django_vtasks.worker.executor import ContextHook, Executor
from django_vtasks.worker.fetcher import WAIT, Fetcher
from django_vtasks.worker.flight import FlightRecord, Recorder
from django_vtasks.worker.outcome import CANCELLED, Outcome
from django_vtasks.worker.registry import Registry
from django_vtasks.worker.slots import Slots
from django_vtasks.worker.suspects import SuspectFetcher

logger = logging.getLogger(__name__)

LAST_WORDS = 2.0
"""Seconds kept at the end of a drain for cancelling, giving back, and settling."""
HURRIED_WORDS = 0.2
"""Seconds for what is cancelled when all shall end at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an actor is made of.

    ``hook`` is the project's VTASKS_TASK_CONTEXT; ``suspects`` makes it run those of its queue, and nothing else. With
    ``batch`` it runs batches, of up to ``concurrency`` functions at a time.
    """

    broker: Broker
    owner: Owner
    queue: str
    concurrency: int
    registry: Registry
    observer: Observer
    hook: ContextHook | None = None
    wait: float = WAIT
    suspects: bool = False
    recorder: Recorder | None = None
    batch: Batch | None = None


class Progress(NamedTuple):
    """What an actor has done and does.

    ``oldest`` is the seconds since the longest-running task began, ``held`` how many tasks are claimed and not settled.
    """

    taken: int
    ended: int
    running: int
    oldest: float
    held: int = 0


class QueueWorker:
    """Run the tasks of one queue from start() until drain()."""

    def __init__(self, recipe: Recipe) -> None:
        self.queue = recipe.queue
        self._slots = Slots(recipe.concurrency if recipe.batch is None else recipe.batch.count)
        # A batch is settled in one call, however large it is.
        self._completer = Completer(recipe.broker, recipe.owner, largest=max(LARGEST_GROUP, self._slots.limit))
        kind = Executor if recipe.batch is None else BatchExecutor
        self._executor = kind(
            recipe.registry, recipe.observer, recipe.concurrency, self._ended,
            hook=recipe.hook,
            is_ending=self._is_ending,
        )  # fmt: skip
        self._fetcher = self._fetcher_of(recipe)
        self._flight = None if recipe.recorder is None else FlightRecord(recipe.recorder)
        self._began: dict[int, float] = {}
        self._ended_count = 0
        self._fetching: asyncio.Task[None] | None = None
        self._completing: asyncio.Task[None] | None = None
        self._failed: Callable[[BaseException], object] | None = None
        self._abandoned = False

    def _fetcher_of(self, recipe: Recipe) -> Fetcher | SuspectFetcher | Batcher:
        if recipe.suspects:
            return SuspectFetcher(
                recipe.broker, recipe.owner, recipe.queue, self._slots, lambda: self._completer.backlog,
                self._start,
                self._give_back,
            )  # fmt: skip
        if recipe.batch is not None:
            return Batcher(
                recipe.broker, recipe.owner, recipe.queue, self._slots, recipe.batch.timeout,
                lambda: self._completer.backlog,
                self._start_batch,
                self._give_back,
                wait=recipe.wait,
            )  # fmt: skip
        return Fetcher(
            recipe.broker, recipe.owner, recipe.queue, self._slots, lambda: self._completer.backlog,
            self._start,
            self._give_back,
            wait=recipe.wait,
        )  # fmt: skip

    @property
    def idle_rounds(self) -> int:
        """Return how often in a row there was nothing to claim; 0 while a task runs or is not settled."""
        return 0 if self._slots.held or self._completer.backlog else self._fetcher.empty_claims

    @property
    def progress(self) -> Progress:
        """Return what this actor has done and does."""
        began = next(iter(self._began.values()), None)
        oldest = 0.0 if began is None else time.monotonic() - began
        held = self._slots.held + self._completer.left
        return Progress(self._fetcher.taken, self._ended_count, len(self._began), oldest, held)

    def start(self, failed: Callable[[BaseException], object] | None = None) -> None:
        """Begin to claim; ``failed`` is told when that ends by an error, after which nothing works any more."""
        self._failed = failed
        self._completing = self._duty(self._completer.run())
        self.resume()

    def _duty(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        duty = asyncio.create_task(work)
        duty.add_done_callback(self._check)
        return duty

    def _check(self, duty: "asyncio.Task[None]") -> None:
        if not duty.cancelled() and (error := duty.exception()) is not None:
            logger.critical("Queue %s: the worker cannot go on", self.queue, exc_info=error)
            if self._failed is not None:
                self._failed(error)

    def _is_ending(self) -> bool:
        return self._completing is not None and self._completing.cancelling() > 0

    async def pause(self) -> None:
        """Claim no more, and give back what has not started; what runs goes on."""
        await self._stop_fetching()
        self._fetcher.give_up()

    async def _stop_fetching(self) -> None:
        if self._fetching is not None:
            await _end(self._fetching)
            self._fetching = None

    def resume(self) -> None:
        """Claim again."""
        if self._fetching is None:
            self._fetching = self._duty(self._fetcher.run())

    async def drain(self, timeout: float, *, at_once: asyncio.Event) -> bool:
        """Stop claiming, give back what has not started, let the rest finish for ``timeout`` seconds: a batch, too.

        What has not finished by then, or when ``at_once`` is set, is cancelled or, on a thread, left behind, and
        given back. Return whether all that ran ended by itself.
        """
        if self._completing is None:
            return True
        deadline = asyncio.get_running_loop().time() + timeout
        await self._stop_fetching()
        if isinstance(self._fetcher, Batcher) and timeout > LAST_WORDS and not at_once.is_set():
            self._fetcher.finish()
        else:
            self._fetcher.give_up()
        if self._completing.done():  # the loop's end has cancelled it too early
            self._completing = self._duty(self._completer.run())
        finished = await self._finish(timeout - LAST_WORDS, at_once)
        if not finished:
            await self._interrupt(at_once)
        left = 0.0 if at_once.is_set() else deadline - asyncio.get_running_loop().time()
        if not await self._flush(max(LAST_WORDS / 2, left), at_once):
            logger.error("Queue %s: %d outcomes could not be settled", self.queue, len(self._completer.backlog))
        await _end(self._completing)
        self._executor.close()
        return finished

    async def _flush(self, timeout: float, at_once: asyncio.Event) -> bool:
        """Wait until all outcomes are settled; told to hurry, only for a moment more."""
        flushing = asyncio.ensure_future(self._completer.flush())
        hurrying = asyncio.ensure_future(at_once.wait())
        await asyncio.wait({flushing, hurrying}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        return await _within(flushing, LAST_WORDS / 2 if at_once.is_set() else 0.0)

    async def _finish(self, timeout: float, at_once: asyncio.Event) -> bool:
        """Wait for the running tasks; return whether all have ended."""
        waits = {asyncio.ensure_future(self._slots.wait_until_empty()), asyncio.ensure_future(at_once.wait())}
        await asyncio.wait(waits, timeout=max(0.0, timeout), return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return not self._slots.held

    async def _interrupt(self, at_once: asyncio.Event) -> None:
        """Cancel what runs on the loop, and give back what does not end within a moment."""
        self._executor.cancel()
        self._fetcher.give_up()
        if await _within(self._slots.wait_until_empty(), HURRIED_WORDS if at_once.is_set() else LAST_WORDS / 2):
            return
        stuck = self._fetcher.running
        logger.error(
            "Queue %s: %d tasks did not end in time and go back: %s",
            self.queue, len(stuck), ", ".join(claim.envelope.task for claim in stuck),
        )  # fmt: skip
        self._abandoned = True
        for claim in stuck:
            if self._flight is not None:
                self._flight.end(claim)  # it goes back unharmed: the end of this process is not its doing
        self._give_back(stuck)

    def _give_back(self, claims: list[Claim]) -> None:
        for claim in claims:
            self._completer.add(claim, CANCELLED)
            self._slots.free()

    def _start(self, claim: Claim) -> None:
        self._note_start(claim)
        self._executor.start(claim)

    def _start_batch(self, members: list[Claim]) -> None:
        assert isinstance(self._executor, BatchExecutor)
        for claim in members:
            self._note_start(claim)
        self._executor.start_batch(members)

    def _note_start(self, claim: Claim) -> None:
        self._began[id(claim)] = time.monotonic()
        if self._flight is not None:
            self._flight.begin(claim)

    def _ended(self, claim: Claim, outcome: Outcome, seconds: float | None) -> None:
        self._began.pop(id(claim), None)
        self._ended_count += 1
        if self._flight is not None:
            self._flight.end(claim)
        if self._abandoned:
            return  # given back already; whoever runs it next settles it
        self._completer.add(claim, outcome, seconds)
        self._slots.free(seconds)
        self._fetcher.ended(claim)


async def _end(duty: "asyncio.Task[None]") -> None:
    duty.cancel()
    await asyncio.wait({duty})


async def _within(awaitable: "asyncio.Future[None] | object", timeout: float) -> bool:
    try:
        await asyncio.wait_for(awaitable, max(0.0, timeout))  # type: ignore[arg-type]
    except TimeoutError:
        return False
    return True
