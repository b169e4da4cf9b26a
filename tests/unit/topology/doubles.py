"""A supervisor that has the children which a test gives it, and a plan to go with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django_vtasks.topology.plan import Plan, QueuePlan
from vtasks_supervisor.events import Exit
from vtasks_supervisor.slot import ChildState

LEASE = 15.0


def a_plan(*queues: str, processes: int = 1, concurrency: int = 4, **fields: Any) -> Plan:
    return Plan(
        **{
            "backend": "default",
            "node": "north-1-abcd",
            "queues": [QueuePlan(queue, processes, concurrency) for queue in queues or ("mail",)],
            "hook": None,
            "lease": LEASE,
            "shutdown_timeout": 25.0,
        }
        | fields
    )


def a_child(name: str = "mail#1", *, state: str = "ready", room: int = 4, last_exit: Exit | None = None) -> ChildState:
    """Return what is known of the actor of a queue; one that is not ready has not told anything yet."""
    vitals: Mapping[str, Any] = {
        "queue": name.partition("#")[0].partition(" (")[0], "work": 0, "running": 4 - room, "room": room, "oldest": 0.0,
    }  # fmt: skip
    return ChildState(
        name=name,
        state=state,
        degraded=False,
        incarnation=1,
        pid=4711,
        restarts=0,
        up=10.0,
        silent=0.5,
        vitals=vitals if state == "ready" else {},
        last_exit=last_exit,
    )


@dataclass
class FakeSupervisor:
    """Its children are what the test says."""

    states: list[ChildState] = field(default_factory=list)
    is_stopping: bool = False


class Clock:
    """Shows the time that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
