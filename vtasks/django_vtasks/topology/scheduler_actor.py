"""The actor that stands for the lead of the schedule, in a process, or in a task, of its own."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django_vtasks.scheduler import entries
from django_vtasks.scheduler.scheduler import Scheduler
from django_vtasks.topology.logs import log_to_stderr, wait_for_no_reader
from django_vtasks.topology.plan import backend_with_broker
from django_vtasks.topology.teller import Teller
from vtasks_supervisor import Actor, Context

logger = logging.getLogger(__name__)

LOOK_EVERY = 5.0
"""Seconds for which what is told of the entries may be old: to find the next slots of many takes time."""
LAST_MOMENT = 0.5
"""Seconds for resigning when all shall end at once."""
MOST_TOLD = 100
"""Entries of which the health page tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerDuty:
    """What the scheduler's actor is told; travels to its process."""

    backend: str
    node: str
    lease: float
    own_process: bool
    log_level: int | None
    tells_counts: bool = False
    """Tell the supervisor what this process counts, which is all the actor's."""


class SchedulerActor(Actor[object]):
    """Enqueue what VTASKS_SCHEDULE says, while it leads; see Scheduler."""

    def __init__(self, duty: SchedulerDuty) -> None:
        self._duty = duty
        self._scheduler: Scheduler | None = None
        self._running: asyncio.Task[None] | None = None
        self._teller: Teller | None = None
        self._told: tuple[float, Mapping[str, Any]] = float("-inf"), {}

    async def on_start(self, context: Context) -> None:
        """Read the schedule, and stand for the lead."""
        duty = self._duty
        if duty.own_process and duty.log_level is not None:
            log_to_stderr(duty.log_level)
            wait_for_no_reader()
        if duty.tells_counts:
            self._teller = Teller(context, lambda: False)
            self._teller.start()
        backend = backend_with_broker(duty.backend)
        self._scheduler = Scheduler(
            backend.broker,  # type: ignore[arg-type] # a coordinator, too
            entries.load(duty.backend),
            node=duty.node,
            lease=duty.lease,
            alias=duty.backend,
            sender=type(backend),
        )
        self._running = asyncio.create_task(self._scheduler.run())
        self._running.add_done_callback(lambda task: _fail(task, context))

    async def on_stop(self, timeout: float, hurry: asyncio.Event) -> None:
        """Resign; told to hurry, not for longer than a moment, however silent the store is."""
        if self._scheduler is None or self._running is None:
            return
        self._scheduler.stop()
        hurrying = asyncio.ensure_future(hurry.wait())
        await asyncio.wait({self._running, hurrying}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        await asyncio.wait({self._running}, timeout=LAST_MOMENT)
        if self._teller is not None:
            await self._teller.stop()

    def vitals(self) -> Mapping[str, Any]:
        """Return who leads, and how the entries stand."""
        told_at, told = self._told
        if self._scheduler is None or time.monotonic() - told_at < LOOK_EVERY:
            return told
        state = self._scheduler.state(MOST_TOLD)
        told = {
            "leader": state.leader,
            "leads": state.is_leader,
            "entries": {name: entry._asdict() for name, entry in state.entries.items()},
        }
        self._told = time.monotonic(), told
        return told


def _fail(running: "asyncio.Task[None]", context: Context) -> None:
    if not running.cancelled() and (error := running.exception()) is not None:
        context.fail(error)
