"""What a worker says of itself through the store, for operators on any host."""

import json
import os
import platform
from collections.abc import Sequence
from typing import Any

from django_vtasks.topology.plan import Plan, slot_of, suspects_of
from vtasks_supervisor.slot import ChildState


def report(plan: Plan, states: Sequence[ChildState], *, draining: bool) -> str:
    """Return JSON that stays the same while nothing happens, so that it need not be stored again."""
    queues = {slot_of(queue, number): queue.name for queue in plan.queues for number in range(1, queue.processes + 1)}
    queues |= {suspects_of(queue): queue for queue in plan.queue_names}
    return json.dumps(
        {
            "host": platform.node(),
            "pid": os.getpid(),
            "queues": plan.queue_names,
            "draining": draining,
            "actors": [_actor(child, queues.get(child.name)) for child in states],
        }
    )


def _actor(child: ChildState, queue: str | None) -> dict[str, Any]:
    return {
        "name": child.name,
        "queue": queue,
        "state": child.state,
        "degraded": child.degraded,
        "pid": child.pid,
        "incarnation": child.incarnation,
        "restarts": child.restarts,
        "last_exit": child.last_exit and child.last_exit.outline,
    }
