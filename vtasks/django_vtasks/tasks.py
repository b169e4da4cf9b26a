"""``@task`` and VTask: Django's Task with uniqueness, and with a signature that type checkers keep."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from inspect import markcoroutinefunction
from typing import TYPE_CHECKING, Any, Concatenate, Literal, Self, overload

from django.core.signals import setting_changed
from django.tasks import (
    DEFAULT_TASK_BACKEND_ALIAS,
    DEFAULT_TASK_QUEUE_NAME,
    Task,
    TaskContext,
    TaskResult,
    task_backends,
)
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.base import DEFAULT_TASK_PRIORITY
from django.tasks.exceptions import InvalidTask
from django.utils import timezone
from django.utils.module_loading import import_string

MAX_TTL = 1_000_000_000
"""Seconds, 31 years: what every store can add to the present moment."""

# Like Task, generic for type checkers only; a type alias is not evaluated at run time.
type _Context = TaskContext[..., Any]
type _Enqueue[**P, R] = Coroutine[Any, Any, TaskResult[P, R]]

if TYPE_CHECKING:
    _Task = Task
else:

    class _Task:
        """Task is generic for type checkers only; at run time the parameters are dropped."""

        def __class_getitem__(cls, parameters: object) -> type[Task]:
            return Task


@dataclass(frozen=True, slots=True, kw_only=True)
class VTask[**P, R](_Task[P, R]):
    """A task that may be unique.

    With ``unique`` an equal enqueue returns None while the first is queued or running, or until ``ttl`` seconds have
    passed if that is given. Equal means the same function and arguments, or the same ``unique_key``. With
    ``remove_unique_on_complete=False`` it returns None for ``ttl`` seconds whatever becomes of the first.
    """

    # Django 6.0 has these without defaults.
    priority: int = DEFAULT_TASK_PRIORITY
    backend: str = DEFAULT_TASK_BACKEND_ALIAS
    queue_name: str = DEFAULT_TASK_QUEUE_NAME
    run_after: datetime | None = None

    unique: bool = False
    unique_key: str | None = None
    ttl: float | None = None
    remove_unique_on_complete: bool = True

    def __post_init__(self) -> None:
        for flag in ("unique", "remove_unique_on_complete"):
            if type(getattr(self, flag)) is not bool:
                raise InvalidTask(f"{flag} must be True or False, not {getattr(self, flag)!r}.")
        if self.unique_key is not None and not _is_text(self.unique_key):
            raise InvalidTask(f"unique_key must be a non-empty string, not {self.unique_key!r}.")
        if self.ttl is not None and not _is_duration(self.ttl):
            raise InvalidTask(f"ttl must be a positive number of seconds, at most {MAX_TTL:,}, not {self.ttl!r}.")
        if self.unique and not self.remove_unique_on_complete and self.ttl is None:
            raise InvalidTask("remove_unique_on_complete=False needs a ttl: the seconds for which equals are refused.")
        self.get_backend().validate_task(self)

    @markcoroutinefunction  # without a coroutine of its own, which would cost as much as the encoding
    def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> _Enqueue[P, R]:
        """Enqueue a call without blocking the loop."""
        return self.get_backend().aenqueue(self, args, kwargs)  # type: ignore[arg-type] # a tuple, as Django does

    def get_backend(self) -> BaseTaskBackend:
        """Return the backend of this task; one that keeps nothing of its own is the same for all threads."""
        backend = _backends.get(self.backend)
        if backend is None:
            backend = task_backends[self.backend]
            if getattr(backend, "keeps_nothing", False):
                _backends[self.backend] = backend
        return backend

    # Django 6.0 has no pickling of its own, and its slots would pickle the function by a name that is the task's.
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, dict[str, Any]]]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return _reconstruct, (type(self), values | {"func": self.module_path})

    @classmethod
    def _reconstruct(cls, kwargs: dict[str, Any]) -> Self:
        return _reconstruct(cls, kwargs)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function in place; for an ``async def`` task the result is to be awaited."""
        return self.func(*args, **kwargs)

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | timedelta | None = None,
        backend: str | None = None,
        unique: bool | None = None,
        unique_key: str | None = None,
        ttl: float | None = None,
        remove_unique_on_complete: bool | None = None,
    ) -> "VTask[P, R]":
        """Return a copy with other options; what is not given stays. A timedelta counts from now."""
        if isinstance(run_after, timedelta):
            run_after = timezone.now() + run_after
        options: dict[str, Any] = {
            "priority": priority,
            "queue_name": queue_name,
            "run_after": run_after,
            "backend": backend,
            "unique": unique,
            "unique_key": unique_key,
            "ttl": ttl,
            "remove_unique_on_complete": remove_unique_on_complete,
        }
        return replace(self, **{name: value for name, value in options.items() if value is not None})


# To ask Django takes as long as to make the envelope: it keeps a backend for each thread and asyncio task.
_backends: dict[str, BaseTaskBackend] = {}


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == "TASKS":
        _backends.clear()


setting_changed.connect(_forget, dispatch_uid="django_vtasks.tasks")


def _reconstruct[T: VTask[..., Any]](cls: type[T], kwargs: dict[str, Any]) -> T:
    path = kwargs["func"]
    try:
        function = import_string(path).func
    except (ImportError, AttributeError) as error:
        raise ValueError(f"Expected {path!r} to point to a Task instance.") from error
    return cls(**(kwargs | {"func": function}))


def _is_text(value: object) -> bool:
    """Tell whether a value is a string with something in it that can be stored, lone surrogates being none."""
    return isinstance(value, str) and value != "" and value.encode("utf-8", "ignore").decode() == value


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_TTL


@overload
def task[**P, R](function: Callable[P, R], /) -> VTask[P, R]: ...
@overload
def task[**P, R](
    *,
    priority: int = ...,
    queue_name: str = ...,
    backend: str = ...,
    takes_context: Literal[False] = False,
    unique: bool = ...,
    unique_key: str | None = ...,
    ttl: float | None = ...,
    remove_unique_on_complete: bool = ...,
) -> Callable[[Callable[P, R]], VTask[P, R]]: ...
@overload
def task[**P, R](
    *,
    priority: int = ...,
    queue_name: str = ...,
    backend: str = ...,
    takes_context: Literal[True],
    unique: bool = ...,
    unique_key: str | None = ...,
    ttl: float | None = ...,
    remove_unique_on_complete: bool = ...,
) -> Callable[[Callable[Concatenate[_Context, P], R]], VTask[P, R]]: ...
def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    priority: int = DEFAULT_TASK_PRIORITY,
    queue_name: str = DEFAULT_TASK_QUEUE_NAME,
    backend: str = DEFAULT_TASK_BACKEND_ALIAS,
    takes_context: bool = False,
    **options: Any,
) -> Any:
    """Make a module-level function, ``def`` or ``async def``, a task.

    ``options`` are ``unique``, ``unique_key``, ``ttl`` (seconds) and ``remove_unique_on_complete``, see VTask;
    the others are Django's. Raise InvalidTask when an option's value is not valid.
    """
    if "run_after" in options:
        raise TypeError(
            "run_after cannot be defined statically with the @task decorator. "
            "Use .using(run_after=...) to set it dynamically."
        )

    def wrap(function: Callable[..., Any]) -> VTask[..., Any]:
        return VTask(
            func=function,
            priority=priority,
            queue_name=queue_name,
            backend=backend,
            takes_context=takes_context,
            run_after=None,
            **options,
        )

    return wrap if function is None else wrap(function)
