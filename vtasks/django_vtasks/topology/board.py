"""What a supervisor knows of its actors, as values of metrics."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import psutil

from django_vtasks.metrics.catalogue import ACTIVE, IN_FLIGHT, LAG, MEMORY, RESTARTS, UP, Family
from django_vtasks.metrics.tally import Key, Value
from django_vtasks.topology.health import READY
from django_vtasks.topology.plan import Plan, suspects_of
from vtasks_supervisor import Event, Supervisor
from vtasks_supervisor.events import Cause, ChildBeat, ChildExited

WORST_OF = 60.0
"""Seconds over which the worst lag is told: whoever asks every half a minute misses none."""
MEMORY_EVERY = 10.0
"""Seconds between two looks at the memory of processes, each of which takes a millisecond."""
SUPERVISOR = "supervisor"
CAUSES = {
    Cause.PLANNED: "planned",
    Cause.CRASHED: "crashed",
    Cause.HUNG: "hung",
    Cause.STUBBORN: "stubborn",
    Cause.NOT_STARTED: "not started",
}


class Board:
    """Notes what happens on the loop; values() may be called on any thread."""

    def __init__(self, plan: Plan, supervisor: Supervisor, clock: Callable[[], float] = time.monotonic) -> None:
        self._queues = plan.queue_names
        self._supervisor = supervisor
        self._clock = clock
        self._vitals: dict[tuple[str, int], Mapping[str, Any]] = {}
        self._lags: dict[tuple[str, int], deque[tuple[float, float]]] = {}
        self._restarts: dict[tuple[str, str], int] = {
            (child.name, cause): 0 for child in supervisor.states for cause in CAUSES.values()
        }
        self._suspects = {suspects_of(queue) for queue in plan.queue_names}
        self._memory: dict[str, int | None] = {}
        self._looked_at: float | None = None

    def note(self, event: Event) -> None:
        """Take in what a supervisor's hook is told."""
        match event:
            case ChildBeat():
                self._note_beat(event)
            case ChildExited():
                self._vitals.pop((event.name, event.incarnation), None)
                self._lags.pop((event.name, event.incarnation), None)
                self._note_exit(event)

    def _note_beat(self, beat: ChildBeat) -> None:
        key, now = (beat.name, beat.incarnation), self._clock()
        self._vitals[key] = beat.vitals
        lags = self._lags.setdefault(key, deque())
        # The worst first: one that is behind another and no worse than it will never be told.
        while lags and lags[-1][1] <= beat.lag:
            lags.pop()
        lags.append((now, beat.lag))
        while lags[0][0] < now - WORST_OF:
            lags.popleft()

    def _note_exit(self, event: ChildExited) -> None:
        cause = event.exit.cause
        if self._supervisor.is_stopping or cause not in CAUSES:
            return
        if cause is Cause.PLANNED and event.name in self._suspects:
            return  # there are none left: nobody follows
        key = event.name, CAUSES[cause]
        self._restarts[key] = self._restarts.get(key, 0) + 1

    def values(self) -> Mapping[Key, Value]:
        """Return what is known now."""
        states, now = self._supervisor.states, self._clock()
        values: dict[Key, Value] = {(RESTARTS.name, key): count for key, count in list(self._restarts.items())}
        values |= {(UP.name, (child.name,)): int(child.state == READY) for child in states}
        vitals = list(self._vitals.values())
        values |= self._by_queue(ACTIVE, "running", vitals)
        values |= self._by_queue(IN_FLIGHT, "held", vitals)
        for (name, _), lags in list(self._lags.items()):
            worst = max((lag for at, lag in list(lags) if at >= now - WORST_OF), default=0.0)
            values[LAG.name, (name,)] = max(worst, _number(values.get((LAG.name, (name,)), 0.0)))
        pids = {child.name: child.pid for child in states if child.pid is not None}
        return values | {(MEMORY.name, (name,)): size for name, size in self._memory_of(pids).items()}

    def _by_queue(self, family: Family, what: str, vitals: Iterable[Mapping[str, Any]]) -> dict[Key, Value]:
        sums = dict.fromkeys(self._queues, 0)
        for facts in vitals:
            if facts.get("queue") in sums:
                sums[facts["queue"]] += facts.get(what, 0)
        return {(family.name, (queue,)): count for queue, count in sums.items()}

    def _memory_of(self, pids: Mapping[str, int]) -> dict[str, int]:
        """Return the bytes of processes; none where actors have no processes of their own.

        As of the last time that somebody asked: a look takes longer than all the rest of a scrape.
        """
        if not pids:
            return {}
        pids = {**pids, SUPERVISOR: os.getpid()}
        if self._looked_at is None:
            self._look_at_memory(pids)
        elif self._clock() - self._looked_at >= MEMORY_EVERY or not pids.keys() <= self._memory.keys():
            threading.Thread(target=self._look_at_memory, args=(pids,), name="vtasks-memory", daemon=True).start()
        return {name: size for name, size in self._memory.items() if name in pids and size is not None}

    def _look_at_memory(self, pids: Mapping[str, int]) -> None:
        self._looked_at = self._clock()
        self._memory = {name: _own_memory(pid) for name, pid in pids.items()}


def _number(value: Value) -> float:
    assert not isinstance(value, tuple)
    return value


def _own_memory(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).memory_full_info().uss)
    except (psutil.Error, OSError, AttributeError):
        return None
