"""What an operator sees, as dicts that are ready for JSON; docs/reference/commands.md describes their fields."""

import json
import time
from collections.abc import Mapping
from typing import Any

from django_vtasks.backends.base import BrokerBackend
from django_vtasks.brokers.base import Broker, Coordinator, FailedTask, Running
from django_vtasks.envelope import Envelope
from django_vtasks.operators.desk import known_queues

type Picture = dict[str, Any]


def queues(backend: BrokerBackend, *, exact: bool = False) -> list[Picture]:
    """Return how much waits in each queue; unless ``exact``, a database counts no more than 10,000 of a kind."""
    broker, names = backend.broker, known_queues(backend)
    depths = {name: broker.depth(name) for name in names} if exact else broker.glance(names)
    ages, paused = broker.oldest(names), broker.paused()
    return [
        {
            "queue": name,
            "waiting": depths[name].waiting,
            "delayed": depths[name].delayed,
            "running": depths[name].running,
            "oldest_seconds": round(ages[name], 1) if name in ages else None,
            "paused": name in paused,
        }
        for name in names
    ]


def workers(coordinator: Coordinator) -> list[Picture]:
    """Return each worker that has a lease, with what it last said of itself."""
    reports = coordinator.reports()
    return [_worker(node, left, reports.get(node)) for node, left in sorted(coordinator.nodes().items())]


def running(broker: Broker, limit: int, *, arguments: bool) -> list[Picture]:
    """Return up to ``limit`` tasks in flight, those that have been longest first where the store knows it."""
    tasks = sorted(broker.running(limit), key=lambda task: (task.since or 0.0, str(task.owner), task.envelope.id))
    return [_running(task) | (_arguments(task.envelope) if arguments else {}) for task in tasks]


def failed(broker: Broker, limit: int, queue: str | None) -> list[Picture]:
    """Return the newest failed tasks, newest first."""
    return [_failed(entry) for entry in broker.failed(limit, queue)]


def failed_task(entry: FailedTask, *, arguments: bool) -> Picture:
    """Return everything about a failed task, with its arguments only if asked for: they may hold secrets."""
    picture = _failed(entry) | {"traceback": entry.failure.traceback}
    return picture | (_arguments(entry.envelope) if arguments else {})


def _worker(node: str, left: float, report: str | None) -> Picture:
    said: Mapping[str, Any] = json.loads(report) if report else {}
    state = "lapsed" if left <= 0 else "draining" if said.get("draining") else "running" if said else "starting"
    return {
        "node": node,
        "state": state,
        "lease_seconds": round(max(0.0, left), 1),
        "host": said.get("host"),
        "pid": said.get("pid"),
        "queues": said.get("queues", []),
        "actors": said.get("actors", []),
    }


def _running(task: Running) -> Picture:
    return {
        "id": task.envelope.id,
        "task": task.envelope.task,
        "queue": task.envelope.queue,
        "node": task.owner.node,
        "actor": task.owner.slot,
        "incarnation": task.owner.incarnation,
        "attempt": task.envelope.attempt,
        "crashes": task.envelope.crashes,
        "since": task.since,
        "seconds": None if task.since is None else round(max(0.0, time.time() - task.since), 1),
    }


def _failed(entry: FailedTask) -> Picture:
    return {
        "id": entry.id,
        "task": entry.task,
        "queue": entry.queue,
        "failed_at": entry.failed_at,
        "exception": entry.failure.exception,
        "message": entry.failure.message,
        "attempts": entry.attempts,
        "crashes": entry.crashes,
    }


def _arguments(envelope: Envelope | None) -> Picture:
    return {"args": envelope and envelope.args, "kwargs": envelope and envelope.kwargs}
