"""Envelope → Django's TaskResult, in one place."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from django.tasks import Task, TaskResult, TaskResultStatus

from django_vtasks import conf
from django_vtasks.envelope import Envelope

# Generic for type checkers only; a type alias is not evaluated at run time.
type AnyTask = Task[..., Any]
type AnyResult = TaskResult[..., Any]


class Published(NamedTuple):
    """A call that reached the broker; without a result it was refused as a duplicate."""

    task: AnyTask
    envelope: Envelope
    result: AnyResult | None


UNKNOWN_WORKER = "unknown"
"""Stands for the workers of earlier attempts, which no store remembers."""

_set = object.__setattr__


def as_enqueued(task: AnyTask, envelope: Envelope) -> AnyTask:
    """Return a registered task with the options that using() gave it before the enqueue."""
    options = {
        "priority": envelope.priority,
        "queue_name": envelope.queue,
        "run_after": None if envelope.run_after is None else moment(envelope.run_after),
    }
    if all(getattr(task, name) == value for name, value in options.items()):
        return task
    # Past the constructor: what was valid where it was enqueued is not for the worker's settings to judge.
    twin: AnyTask = object.__new__(type(task))
    for field in fields(task):
        _set(twin, field.name, options.get(field.name, getattr(task, field.name)))
    return twin


def build(
    task: AnyTask,
    envelope: Envelope,
    alias: str,
    *,
    status: TaskResultStatus = TaskResultStatus.READY,
    worker: str | None = None,
    started_at: float | None = None,
) -> AnyResult:
    """Return the result of an unfinished task on backend ``alias``; times are seconds since the epoch."""
    # Past the constructor, which would normalise again what the envelope has normalised already.
    result = TaskResult.__new__(TaskResult)
    _fill(result, task, envelope, alias, status=status, worker=worker, started_at=started_at)
    return result


class EnqueuedResult(TaskResult[..., Any] if TYPE_CHECKING else TaskResult):  # type: ignore[misc]
    """The result of an enqueue; its fields are made when somebody reads one: few do, and it takes longer than the rest.

    To whoever looks it is a TaskResult, equal to one of the same fields, and one when it is copied or pickled.
    """

    __slots__ = ("_source",)

    def __getattr__(self, name: str) -> Any:
        """Fill the fields in when the first of them is missed."""
        if name not in _FIELDS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        _fill(self, *object.__getattribute__(self, "_source"))
        return object.__getattribute__(self, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskResult) and _as_tuple(self) == _as_tuple(other)

    __hash__ = TaskResult.__hash__

    def __repr__(self) -> str:
        return repr(_plain_of(_as_tuple(self)))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _plain_of, (_as_tuple(self),)


def enqueued(task: AnyTask, envelope: Envelope, alias: str) -> AnyResult:
    """Return the result of a task that has just been enqueued on backend ``alias``."""
    result = _new(EnqueuedResult)
    _set_source(result, (task, envelope, alias))
    return result


_new = object.__new__
_set_source = EnqueuedResult.__dict__["_source"].__set__
_FIELDS = tuple(field.name for field in fields(TaskResult))


def _as_tuple(result: AnyResult) -> tuple[Any, ...]:
    return tuple(getattr(result, name) for name in _FIELDS)


def _plain_of(values: Sequence[Any]) -> AnyResult:
    result = TaskResult.__new__(TaskResult)
    for name, value in zip(_FIELDS, values, strict=True):
        _set(result, name, value)
    return result


def _fill(
    result: AnyResult,
    task: AnyTask,
    envelope: Envelope,
    alias: str,
    *,
    status: TaskResultStatus = TaskResultStatus.READY,
    worker: str | None = None,
    started_at: float | None = None,
) -> None:
    started = None if started_at is None else moment(started_at)
    _set(result, "task", task)
    _set(result, "id", envelope.id)
    _set(result, "status", status)
    _set(result, "enqueued_at", moment(envelope.enqueued_at))
    _set(result, "started_at", started)
    _set(result, "last_attempted_at", started)
    _set(result, "finished_at", None)
    _set(result, "args", envelope.args)
    _set(result, "kwargs", envelope.kwargs)
    _set(result, "backend", alias)
    _set(result, "errors", [])
    _set(result, "worker_ids", [] if worker is None else [UNKNOWN_WORKER] * (envelope.attempt - 1) + [worker])
    _set(result, "_return_value", None)


def moment(seconds: float) -> datetime:
    """Return a datetime, aware if the project uses time zones, from seconds since the epoch."""
    return moments()(seconds)


def moments() -> Callable[[float], datetime]:
    """Return what moment() does for many: to ask for the setting takes longer."""
    return partial(datetime.fromtimestamp, tz=UTC) if conf.use_tz() else datetime.fromtimestamp
