"""The actor that serves one queue: a QueueWorker in a process, or in a task, of its own."""

import asyncio
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django_vtasks import observers
from django_vtasks.brokers.base import Owner
from django_vtasks.conf import Batch
from django_vtasks.errors import ConfigError
from django_vtasks.observers import Observer
from django_vtasks.topology.logs import log_to_stderr, wait_for_no_reader
from django_vtasks.topology.plan import backend_with_broker, hook_of
from django_vtasks.topology.teller import Teller
from django_vtasks.worker.fetcher import WAIT
from django_vtasks.worker.registry import Registry
from django_vtasks.worker.worker import QueueWorker, Recipe
from vtasks_supervisor import Actor, Context

logger = logging.getLogger(__name__)

SWITCH_INTERVAL = 0.0005
"""Seconds for which a thread may keep the interpreter: the loop and the broker's thread take turns often."""
LOOK_EVERY = 0.05
"""Seconds between two looks at whether an actor that is to end has anything left to do."""
SURE = 2
"""Empty claims in a row that say that there are no suspects left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """What an actor is told; travels to its process."""

    backend: str
    node: str
    slot: str
    queue: str
    concurrency: int
    batch: Batch | None
    most_running: int
    hook: str | None
    burst: bool
    suspects: bool = False
    """Run the suspects of the queue, and end when there are none."""
    own_process: bool
    log_level: int | None
    tells_counts: bool = False
    """Tell the supervisor what this process counts, which is all the actor's."""


@dataclass(frozen=True, slots=True)
class Idle:
    """What an actor of a burst says: how many claims it has ever taken, and how often in a row there was none."""

    taken: int
    rounds: int


@dataclass(frozen=True, slots=True)
class BrokenModules:
    """What an actor says of modules that it could not import: the type of each error, whose text may hold secrets."""

    errors: Mapping[str, str]


class QueueActor(Actor[object]):
    """Serve a queue until told to stop; see Duty."""

    def __init__(self, duty: Duty) -> None:
        self._duty = duty
        self._backend = backend_with_broker(duty.backend)
        self._worker: QueueWorker | None = None
        self._looking: asyncio.Task[None] | None = None
        self._teller: Teller | None = None

    async def on_start(self, context: Context) -> None:
        """Load the tasks and begin to claim."""
        duty = self._duty
        if duty.own_process:
            sys.setswitchinterval(SWITCH_INTERVAL)
            if duty.log_level is not None:
                log_to_stderr(duty.log_level)
                wait_for_no_reader()
        if duty.tells_counts:
            self._teller = Teller(context, lambda: bool(self._worker and self._worker.progress.running))
            self._teller.start()
        self._worker = QueueWorker(
            Recipe(
                broker=self._backend.broker,
                owner=Owner(duty.node, duty.slot, context.incarnation),
                queue=duty.queue,
                concurrency=duty.concurrency,
                registry=_registry(context),
                observer=Observer(type(self._backend)),
                hook=hook_of(duty.hook),
                wait=0.0 if duty.burst else WAIT,
                suspects=duty.suspects,
                recorder=context.recorder,
                batch=duty.batch,
            )
        )
        self._worker.start(context.fail)
        observers.worker_began(type(self), duty.node, [duty.queue])
        if duty.suspects or duty.burst:
            self._looking = asyncio.create_task(self._look(self._worker, context))

    async def on_pause(self) -> None:
        """Claim no more."""
        if self._worker is not None:
            await self._worker.pause()
            logger.info("Actor %s takes no new tasks", self._duty.slot)

    async def on_resume(self) -> None:
        """Claim again."""
        if self._worker is not None:
            self._worker.resume()
            logger.info("Actor %s takes tasks again", self._duty.slot)

    async def on_stop(self, timeout: float, hurry: asyncio.Event) -> None:
        """Let what runs finish, give back the rest."""
        if self._looking is not None:
            self._looking.cancel()
        if self._worker is None:
            return
        await self._worker.drain(timeout, at_once=hurry)
        if self._teller is not None:
            await self._teller.stop()
        observers.worker_ended(type(self), self._duty.node, [self._duty.queue])
        if self._duty.own_process:
            await self._backend.broker.aclose()

    def vitals(self) -> Mapping[str, Any]:
        """Return the progress of the worker."""
        if self._worker is None:
            return {}
        progress = self._worker.progress
        return {
            "queue": self._duty.queue,
            "work": progress.ended,
            "running": progress.running,
            "room": self._room(progress.running),
            "oldest": round(progress.oldest, 1),
            "held": progress.held,
        }

    def _room(self, running: int) -> int:
        if self._duty.batch is not None and running:
            return 0  # one batch at a time
        return self._duty.most_running - running

    async def _look(self, worker: QueueWorker, context: Context) -> None:
        """Tell a burst whether there is anything to do; end the run of suspects when there is none left."""
        told = None
        while True:
            report = Idle(worker.progress.taken, worker.idle_rounds)
            if self._duty.burst and report != told:
                context.say(report)
                told = report
            if self._duty.suspects and report.rounds >= SURE:
                context.finish()
            await asyncio.sleep(LOOK_EVERY)


def _registry(context: Context) -> Registry:
    registry = Registry()
    registry.load()
    errors = registry.errors
    if errors and not registry.modules:
        reasons = (f"{module}: {type(error).__name__}: {error}" for module, error in errors.items())
        raise ConfigError("No tasks module can be imported: " + "; ".join(reasons))
    context.say(BrokenModules({module: type(error).__name__ for module, error in errors.items()}))
    return registry
