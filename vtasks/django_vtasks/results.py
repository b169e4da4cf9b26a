"""Envelope → Django's TaskResult, in one place."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.tasks import Task, TaskResult, TaskResultStatus
from django.tasks.base import TaskError

from django_vtasks import conf
from django_vtasks.envelope import Envelope

# Generic for type checkers only; a type alias is not evaluated at run time.
type AnyTask = Task[..., Any]
type AnyResult = TaskResult[..., Any]

@dataclass(frozen=True, slots=True)
class Published:
    """A call that reached the broker; without a result it was refused as a duplicate."""

    task: AnyTask
    envelope: Envelope
    result: AnyResult | None


UNKNOWN_WORKER = "unknown"
"""Stands for the workers of earlier attempts, which no store remembers."""

_set = object.__setattr__


def build(
    task: AnyTask,
    envelope: Envelope,
    alias: str,
    *,
    status: TaskResultStatus = TaskResultStatus.READY,
    worker: str | None = None,
    started_at: float | None = None,
    finished_at: float | None = None,
    errors: Sequence[TaskError] = (),
    return_value: Any = None,
) -> AnyResult:
    """Return the result of a task on backend ``alias``; times are seconds since the epoch."""
    result = TaskResult(
        task=task,
        id=envelope.id,
        status=status,
        enqueued_at=moment(envelope.enqueued_at),
        started_at=moment(started_at),
        last_attempted_at=moment(started_at),
        finished_at=moment(finished_at),
        args=[],
        kwargs={},
        backend=alias,
        errors=list(errors),
        worker_ids=[] if worker is None else [UNKNOWN_WORKER] * (envelope.attempt - 1) + [worker],
    )
    # Past the constructor, which would normalise again what the envelope has normalised already.
    _set(result, "args", envelope.args)
    _set(result, "kwargs", envelope.kwargs)
    if return_value is not None:
        _set(result, "_return_value", return_value)
    return result


def moment(seconds: float | None) -> datetime | None:
    """Return a datetime, aware if the project uses time zones, from seconds since the epoch."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC) if conf.use_tz() else datetime.fromtimestamp(seconds)  # noqa: DTZ006
