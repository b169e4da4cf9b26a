"""A call of a task → envelope → broker → TaskResult."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from inspect import Parameter, signature
from math import isfinite
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.core.signals import setting_changed
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.tasks import Task
from django.utils.json import normalize_json
from django.utils.timezone import get_default_timezone, is_naive

from django_vtasks import conf, deferral, identity, observers, results
from django_vtasks.brokers.base import Broker
from django_vtasks.envelope import Envelope, Unique
from django_vtasks.errors import InvalidTask, kind_of
from django_vtasks.results import AnyResult, AnyTask, Published
from django_vtasks.tasks import VTask

type Call = tuple[AnyTask, Sequence[Any], Mapping[str, Any]]
"""A task with its arguments, as the caller gave them."""

MOST_KNOWN = 1000
"""Tasks whose templates are kept, at most; a project has fewer, but for those that it makes with using()."""


class Publisher:
    """Enqueue calls on one backend, and tell the observers.

    ``sender`` is the backend's class, ``validate`` its validate_task(); ``validates_once`` says that a task found
    valid stays so, unless it has a ``run_after``.
    """

    def __init__(
        self, alias: str, broker: Broker, sender: type, validate: Callable[[AnyTask], None], *, validates_once: bool
    ) -> None:
        self.broker = broker
        self._database = broker.capabilities.database
        self._is_transactional = broker.capabilities.transactional
        self._alias = alias
        self._sender = sender
        self._validate = validate
        self._validates_once = validates_once
        self._templates = _templates[alias]

    def publish(self, calls: Iterable[Call]) -> list[AnyResult | None]:
        """Enqueue calls in order; None stands for one that was refused as a duplicate.

        In a transaction that the broker has no part in, they are enqueued when it commits.
        """
        calls = list(calls)
        envelopes = self._envelopes(calls)
        if not self._is_transactional and (connection := deferral.open_transaction()) is not None:
            return self._defer(connection, calls, envelopes)
        made: list[AnyResult] = []

        def make() -> None:
            made[:] = self._results(calls, envelopes)

        accepted = self.broker.push(envelopes, make)
        self._count(envelopes, accepted)
        enqueued = _accepted(made, accepted)
        if observers.are_told(accepted):
            observers.published(self._sender, _events(calls, envelopes, enqueued))
        return enqueued

    def publish_one(self, task: AnyTask, args: Iterable[Any], kwargs: Mapping[str, Any]) -> AnyResult | None:
        """Do what publish() does with a single call, sooner."""
        template = self._template(task)
        envelope = template.filled(args, kwargs)
        if not self._is_transactional and (connection := deferral.open_transaction()) is not None:
            return self._defer(connection, [(task, envelope.args, envelope.kwargs)], [envelope])[0]
        accepted = self.broker.push([envelope])
        if self._database is not None:
            self._count([envelope], accepted)
        result = self._result(template, envelope, is_accepted=accepted[0])
        if observers.are_told(accepted):
            observers.published(self._sender, [Published(task, envelope, result)])
        return result

    async def apublish(self, calls: Iterable[Call]) -> list[AnyResult | None]:
        """Do what publish() does without blocking the loop."""
        if not self._is_transactional and deferral.is_called_by_a_thread():
            return await sync_to_async(self.publish)(calls)
        calls = list(calls)
        envelopes = self._envelopes(calls)
        on_its_way = self.broker.apush(envelopes)
        made = self._results(calls, envelopes)
        accepted = await on_its_way
        await self._acount(envelopes, accepted)
        enqueued = _accepted(made, accepted)
        if observers.are_told(accepted):
            await observers.apublished(self._sender, _events(calls, envelopes, enqueued))
        return enqueued

    async def apublish_one(self, task: AnyTask, args: Iterable[Any], kwargs: Mapping[str, Any]) -> AnyResult | None:
        """Do what apublish() does with a single call, in two thirds of the time."""
        if not self._is_transactional and deferral.is_called_by_a_thread():
            return await sync_to_async(self.publish_one)(task, tuple(args), kwargs)
        template = self._template(task)
        envelope = template.filled(args, kwargs)
        accepted = await self.broker.apush([envelope])
        if self._database is not None:
            await self._acount([envelope], accepted)
        result = self._result(template, envelope, is_accepted=accepted[0])
        if observers.are_told(accepted):
            await observers.apublished(self._sender, [Published(task, envelope, result)])
        return result

    def _result(self, template: "Template", envelope: Envelope, *, is_accepted: bool) -> AnyResult | None:
        """Return the result of one call that has been pushed, and count it, unless a transaction may still undo it."""
        if not is_accepted:
            return None
        if self._database is None:
            template.submissions.value += 1
        return results.enqueued(template.task, envelope, self._alias)

    def _defer(
        self, connection: BaseDatabaseWrapper, calls: Sequence[Call], envelopes: Sequence[Envelope]
    ) -> list[AnyResult | None]:
        def committed(accepted: Sequence[bool]) -> None:
            observers.submitted(parcel, accepted)
            if observers.are_told(accepted):
                pushed = [event for event in events if event.result is not None]
                fates = zip(pushed, accepted, strict=True)
                observers.published(
                    self._sender, [event if yes else event._replace(result=None) for event, yes in fates]
                )

        wanted = deferral.defer(connection, self.broker, envelopes, committed)
        enqueued = _accepted(self._results(calls, envelopes), wanted)
        events = _events(calls, envelopes, enqueued)
        parcel = [event.envelope for event in events if event.result is not None]
        observers.published(self._sender, [event for event in events if event.result is None])
        return enqueued

    def _count(self, envelopes: Sequence[Envelope], accepted: Sequence[bool]) -> None:
        """Count what has been pushed, when the transaction commits that it is part of."""
        if self._database is None or not connections[self._database].in_atomic_block:
            observers.submitted(envelopes, accepted)
        else:  # what is large about the calls has gone to the store, and is not kept here until then
            count = partial(observers.submitted_in_all, observers.by_task(envelopes, accepted))
            transaction.on_commit(count, using=self._database, robust=True)

    async def _acount(self, envelopes: Sequence[Envelope], accepted: Sequence[bool]) -> None:
        if self._database is not None and deferral.is_called_by_a_thread():
            await sync_to_async(self._count)(envelopes, accepted)  # that thread may be in a transaction
        else:
            observers.submitted(envelopes, accepted)

    def _envelopes(self, calls: Sequence[Call]) -> list[Envelope]:
        envelopes = []
        template: Template | None = None
        now = time.time()
        for (task, args, kwargs), task_id in zip(calls, identity.several(len(calls)), strict=True):
            if template is None or template.task is not task:  # in bulk the same task comes thousands of times
                template = self._template(task)
            envelopes.append(template.filled(args, kwargs, task_id, now))
        return envelopes

    def _template(self, task: AnyTask) -> "Template":
        """Return the template of a task that is valid."""
        template = self._templates.get(id(task))
        if template is None or template.task is not task:
            self._validate(task)
            template = Template(task, max_rescues=conf.current().max_rescues)
            if self._validates_once and task.run_after is None:
                if len(self._templates) >= MOST_KNOWN:
                    self._templates.clear()
                self._templates[id(task)] = template
        return template

    def _results(self, calls: Sequence[Call], envelopes: Sequence[Envelope]) -> list[AnyResult]:
        alias = self._alias
        return [results.enqueued(call[0], envelope, alias) for call, envelope in zip(calls, envelopes, strict=True)]


def _accepted(made: Sequence[AnyResult], accepted: Sequence[bool]) -> list[AnyResult | None]:
    if all(accepted):
        return list(made)
    return [result if yes else None for result, yes in zip(made, accepted, strict=True)]


def _events(
    calls: Sequence[Call], envelopes: Sequence[Envelope], enqueued: Sequence[AnyResult | None]
) -> list[Published]:
    return [
        Published(task, envelope, result)
        for (task, *_), envelope, result in zip(calls, envelopes, enqueued, strict=True)
    ]


# By the alias of a backend and the id of a task; each keeps its task, so that no other gets the id of one of these.
_templates: "defaultdict[str, dict[int, Template]]" = defaultdict(dict)


def _forget(**kwargs: Any) -> None:
    for known in _templates.values():
        known.clear()


setting_changed.connect(_forget, dispatch_uid="django_vtasks.publishing")


class Template:
    """What all envelopes of a task have in common; ``max_rescues`` as in VTASKS_MAX_RESCUES."""

    __slots__ = ("_max_rescues", "_path", "_priority", "_queue", "_run_after", "_unique", "submissions", "task")

    def __init__(self, task: AnyTask, *, max_rescues: int) -> None:
        self.task = task
        self._path = task.module_path
        self._queue = str(task.queue_name)
        self._priority = task.priority
        self._run_after = None if task.run_after is None else _timestamp(task.run_after)
        self._unique = task if isinstance(task, VTask) and task.unique else None
        self._max_rescues = max_rescues
        self.submissions = observers.submissions(self._path, self._queue)

    def filled(
        self, args: Iterable[Any], kwargs: Mapping[str, Any], task_id: str | None = None, now: float | None = None
    ) -> Envelope:
        """Return the envelope of a call that is made ``now``; raise TypeError for arguments that are not JSON."""
        try:
            args = [value if type(value) in _ATOMS else plain(value) for value in args]
            kwargs = {name: plain(value) for name, value in kwargs.items()} if kwargs else {}
        except RecursionError as error:
            raise TypeError(f"The arguments of {self._path} are nested too deeply for JSON.") from error
        except ValueError as error:  # bytes that are no text, keys with thousands of digits
            raise TypeError(f"The arguments of {self._path} are not valid JSON: {error}") from error
        return Envelope(
            id=identity.new() if task_id is None else task_id,
            task=self._path,
            queue=self._queue,
            args=args,
            kwargs=kwargs,
            enqueued_at=time.time() if now is None else now,
            priority=self._priority,
            run_after=self._run_after,
            max_rescues=self._max_rescues,
            unique=None if self._unique is None else _unique(self._unique, self._path, args, kwargs),
        )


def parse_calls(items: Iterable[Any]) -> Iterable[Call]:
    """Return calls from ``(task, args, kwargs)`` triples.

    A ``queue_name`` among the kwargs routes the task, unless the function itself can take it.
    """
    for position, item in enumerate(items):
        call = item if _is_call(item) else _call(position, item)
        task, args, kwargs = call
        if "queue_name" in kwargs and not _takes_queue_name(task.func):
            kwargs = dict(kwargs)
            queue_name = kwargs.pop("queue_name")
            task = _routed(task, queue_name) if isinstance(queue_name, str) else task.using(queue_name=queue_name)
            call = task, args, kwargs
        yield call


def _is_call(item: Any) -> bool:
    """Tell whether an item is as nearly all are; to ask an abstract class takes long."""
    return (
        type(item) is tuple
        and len(item) == 3  # noqa: PLR2004 - a triple
        and isinstance(item[0], Task)
        and type(item[1]) is tuple
        and type(item[2]) is dict
    )


def _call(position: int, item: Any) -> Call:
    try:
        task, args, kwargs = item
    except (TypeError, ValueError):
        raise TypeError(f"Item {position} is not a (task, args, kwargs) triple, but {kind_of(item)}.") from None
    if not isinstance(task, Task):
        raise InvalidTask(f"Item {position} is not a task, but {kind_of(task)}. Decorate the function with @task.")
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        raise TypeError(f"Item {position} must have a list or tuple of arguments, not {kind_of(args)}.")
    if not isinstance(kwargs, Mapping):
        raise TypeError(f"Item {position} must have a dictionary of keyword arguments, not {kind_of(kwargs)}.")
    return task, args, kwargs


# A bulk of a thousand calls that route themselves makes, and validates, one task.
@lru_cache(maxsize=256)
def _routed(task: AnyTask, queue_name: str) -> AnyTask:
    return task.using(queue_name=queue_name)


@lru_cache(maxsize=1024)
def _takes_queue_name(function: Callable[..., Any]) -> bool:
    parameters = signature(function).parameters
    return "queue_name" in parameters or any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())


_ATOMS = frozenset({str, int, bool, type(None)})
"""Types of values that are JSON as they are, whatever they are."""


def plain(value: Any) -> Any:
    """Return a value in JSON's own types; raise TypeError for what JSON cannot say."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is float:
        if not isfinite(value):
            raise TypeError(f"Unsupported value: {value!r} is not JSON.")
        return value
    if kind is list or kind is tuple:
        return [plain(item) for item in value]
    if kind is dict:
        return _plain_dict(value)
    return plain(_of_builtin_type(value))


def _plain_dict(value: dict[Any, Any]) -> dict[str, Any]:
    named = {key if type(key) is str else _name(key): plain(item) for key, item in value.items()}
    if len(named) != len(value):
        raise TypeError("Two keys of a dictionary are the same in JSON, such as 1 and '1'.")
    return named


def _of_builtin_type(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value.items())
    normal = normalize_json(value)
    for builtin, convert in _BUILTINS.items():
        if isinstance(normal, builtin):
            return convert(normal)
    return normal


def _name(key: Any) -> str:
    """Return a key of a dictionary as the json module writes it."""
    key = plain(key)
    if type(key) is str:
        return key
    if key is None or type(key) is bool:
        return _KEYWORDS[key]
    if type(key) is int or type(key) is float:
        return repr(key)
    raise TypeError(f"Unsupported type of a dictionary's key: {type(key)}")


_KEYWORDS = {None: "null", True: "true", False: "false"}

# Not str() and the like: an enumeration's own __str__ may say something else than its value.
_BUILTINS: dict[type, Callable[[Any], Any]] = {str: str.__str__, int: int.__int__, float: float.__float__}


def _timestamp(moment: datetime) -> float:
    if is_naive(moment):
        moment = moment.replace(tzinfo=get_default_timezone())
    return moment.astimezone(UTC).timestamp()


def _unique(task: VTask[..., Any], path: str, args: list[Any], kwargs: dict[str, Any]) -> Unique:
    if task.unique_key is not None:
        identity: Any = task.unique_key
    else:
        identity = [path, args, kwargs]
    try:
        canonical = msgspec.json.encode(identity, order="deterministic")
    except (ValueError, RecursionError) as error:
        raise TypeError(f"The arguments of {path} are not valid JSON: {error}") from error
    digest = hashlib.sha256(canonical).hexdigest()
    return Unique(key=digest, ttl=task.ttl, keep=not task.remove_unique_on_complete)
