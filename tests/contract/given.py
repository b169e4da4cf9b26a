"""Tasks, owners and endings for the behaviours to begin with."""

import hashlib
import time
import uuid
from collections.abc import Callable
from typing import Any

from django_vtasks.brokers.base import Ack, Bury, Claim, Due, Owner, Release, Retry, Settlement, TaskFailure
from django_vtasks.envelope import Envelope, Unique

AN_HOUR = 3600.0
A_LEASE = 60.0
NOON = 1_700_000_000.0
"""A slot long after a schedule that a test has backdated, and long before now."""

ALICE = Owner("north", "mail#1")
BOB = Owner("south", "mail#1")

FAILURE = TaskFailure("builtins.ValueError", "no such address", "Traceback (most recent call last): …")

type Ending = Callable[[Claim], Settlement]
ENDINGS: dict[str, Ending] = {
    "ack": Ack,
    "bury": lambda claim: Bury(claim, FAILURE),
    "retry": lambda claim: Retry(claim, 0.0),
    "release": Release,
}


def a_task(*args: Any, queue: str = "mail", **fields: Any) -> Envelope:
    """Return a new task; ``args`` are those of its call."""
    return Envelope(
        id=uuid.uuid4().hex,
        task="demo.tasks.send",
        queue=queue,
        args=list(args),
        kwargs={},
        enqueued_at=time.time(),
        **fields,
    )


def tasks(count: int, **fields: Any) -> list[Envelope]:
    """Return new tasks that differ in their id alone."""
    return [a_task(**fields) for _ in range(count)]


def due(entry: str, slot: float, **fields: Any) -> Due:
    """Return a slot of a schedule's entry with a new task."""
    return Due(entry, slot, a_task(**fields))


def in_an_hour() -> float:
    """Return a time that does not come during a test."""
    return time.time() + AN_HOUR


def key(name: str) -> str:
    """Return the key of a unique task."""
    return hashlib.sha256(name.encode()).hexdigest()


def mutex(name: str = "report", ttl: float | None = None) -> Unique:
    """Return a lock that goes with the task."""
    return Unique(key(name), ttl)


def throttle(name: str = "report", ttl: float = AN_HOUR) -> Unique:
    """Return a lock that outlives the task."""
    return Unique(key(name), ttl, keep=True)
