"""Whether the worker does its work: from what the actors tell and what the store holds."""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from django_vtasks.brokers.base import Depth
from django_vtasks.topology.plan import Plan, slot_of, suspects_of
from vtasks_supervisor import Event, Supervisor
from vtasks_supervisor.events import ChildBeat, ChildExited, ChildReady, TreeReady, TreeStopping
from vtasks_supervisor.slot import ChildState

READY = "ready"
SCHEDULER = "scheduler"
"""The name of the scheduler's actor; those of queues have a number or parentheses."""


class Health:
    """Notes what happens; its public attributes are set by whoever learns of what they hold.

    A queue is stalled when tasks wait, an actor has room for them or there is none, and nothing has ended for two
    leases. Long tasks in every slot are no stall, nor are suspects that wait for one of them to end, nor a pause.
    """

    def __init__(self, plan: Plan, supervisor: Supervisor, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan = plan
        self._supervisor = supervisor
        self._clock = clock
        self._progress = dict.fromkeys(plan.queue_names, clock())
        self._queues = {
            slot_of(queue, number): queue.name for queue in plan.queues for number in range(1, queue.processes + 1)
        }
        self._done: dict[tuple[str, int], int] = {}
        self._ready = False
        self._stopping = False
        self.depths: Mapping[str, Depth] = {}
        self.suspects: Mapping[str, int] = {}
        """How many of those that wait are suspects."""
        self.paused: Collection[str] = ()
        """The queues that are paused."""
        self.renewed_at: float | None = None
        self.broken_modules: Mapping[str, str] = {}

    def note(self, event: Event) -> None:
        """Take in what a supervisor's hook is told."""
        match event:
            case ChildBeat():
                self._note_progress(event)
            case ChildReady():
                if event.name in self._queues:
                    self._progress[self._queues[event.name]] = self._clock()
            case ChildExited():
                self._done.pop((event.name, event.incarnation), None)
            case TreeReady():
                self._ready = True
            case TreeStopping():
                self._stopping = True

    def note_paused(self, queues: Collection[str]) -> None:
        """Take in which queues are paused; when one is resumed, it has its time."""
        self.paused = queues
        self._progress.update(dict.fromkeys(self._progress.keys() & set(queues), self._clock()))

    def _note_progress(self, event: ChildBeat) -> None:
        queue, work = event.vitals.get("queue"), event.vitals.get("work", 0)
        key = (event.name, event.incarnation)
        if queue in self._progress and work != self._done.get(key, 0):
            self._progress[queue] = self._clock()
        self._done[key] = work

    @property
    def is_ready(self) -> bool:
        """Tell whether the worker takes tasks: every queue has an actor, the lease holds, and it does not drain."""
        served = {child.vitals.get("queue") for child in self._supervisor.states if child.state == READY}
        return (
            self._ready and not self._stopping and self._has_lease() and all(name in served for name in self._progress)
        )

    @property
    def has_actor(self) -> bool:
        """Tell whether any actor lives, so that a restart of the whole worker would better nothing."""
        return any(child.state == READY for child in self._supervisor.states)

    def problems(self) -> list[str]:
        """Return what is wrong, in words; empty when the worker is healthy."""
        if self.renewed_at is None:
            return ["the broker has not answered yet"]
        problems = [] if self._has_lease() else ["the broker does not answer: the node's lease has run out"]
        states = self._supervisor.states
        problems += [f"queue {queue} makes no progress" for queue in self._progress if self._is_stalled(queue, states)]
        return problems + [f"{module} cannot be imported: {error}" for module, error in self.broken_modules.items()]

    def report(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        problems = self.problems()
        states = self._supervisor.states
        return {
            "status": "unhealthy" if problems else "healthy",
            "problems": problems,
            "ready": self.is_ready,
            "draining": self._stopping,
            "node": self._plan.node,
            "backend": self._plan.backend,
            "queues": {queue: self._queue(queue, states) for queue in self._progress},
            "schedule": next((dict(child.vitals) for child in states if child.name == SCHEDULER), None),
            "actors": [_actor(child) for child in states],
        }

    def _has_lease(self) -> bool:
        return self.renewed_at is not None and self._clock() - self.renewed_at < self._plan.lease

    def _is_stalled(self, queue: str, states: list[ChildState]) -> bool:
        depth = self.depths.get(queue)
        if depth is None or self._clock() - self._progress[queue] < 2 * self._plan.lease:
            return False
        suspects = min(self.suspects.get(queue, 0), depth.waiting)
        actors = [child for child in states if child.vitals.get("queue") == queue and child.state == READY]
        apart = [child for child in actors if child.name == suspects_of(queue)]
        others = [child for child in actors if child not in apart]
        if depth.waiting > suspects and (not others or any(child.vitals["room"] > 0 for child in others)):
            return True
        return suspects > 0 and not any(child.vitals["running"] for child in apart)

    def _queue(self, queue: str, states: list[ChildState]) -> dict[str, Any]:
        depth = self.depths.get(queue)
        mine = [child.vitals for child in states if child.vitals.get("queue") == queue]
        return {
            "waiting": depth and depth.waiting,
            "delayed": depth and depth.delayed,
            "paused": queue in self.paused,
            "running_here": sum(vitals["running"] for vitals in mine),
            "oldest_running_seconds": max((vitals["oldest"] for vitals in mine), default=0.0),
            "seconds_since_progress": round(self._clock() - self._progress[queue], 1),
            "stalled": self._is_stalled(queue, states),
        }


def _actor(child: ChildState) -> dict[str, Any]:
    return {
        "name": child.name,
        "state": child.state,
        "degraded": child.degraded,
        "pid": child.pid,
        "incarnation": child.incarnation,
        "restarts": child.restarts,
        "up_seconds": round(child.up, 1),
        "silent_seconds": round(child.silent, 1),
        "running": child.vitals.get("running", 0),
        "done": child.vitals.get("work", 0),
        "last_exit": child.last_exit and child.last_exit.outline,
    }
