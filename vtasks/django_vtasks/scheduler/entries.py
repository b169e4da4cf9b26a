"""VTASKS_SCHEDULE → the entries that are valid, and what is wrong with the others."""

import hashlib
import logging
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from django.core.exceptions import ImproperlyConfigured
from django.tasks import Task
from django.utils.module_loading import import_string
from django.utils.timezone import get_default_timezone_name

from django_vtasks import conf, wire
from django_vtasks.brokers.base import Due
from django_vtasks.envelope import Envelope, Unique
from django_vtasks.errors import InvalidTask, kind_of
from django_vtasks.publishing import Template
from django_vtasks.results import AnyTask
from django_vtasks.schedule import LONGEST, Misfire, Timetable, as_seconds, timetable
from django_vtasks.tasks import VTask

logger = logging.getLogger(__name__)

SETTING = "VTASKS_SCHEDULE"
MAX_NAME = 100
"""Characters of an entry's name; every store can hold so many."""

_KEYS = ("task", "schedule", "args", "kwargs", "options", "timezone", "misfire", "overlap", "jitter")
_PLAIN_OPTIONS = ("queue_name", "priority", "backend")
_OPTIONS = (*_PLAIN_OPTIONS, "unique", "unique_key", "ttl", "remove_unique_on_complete")


class Overlap(StrEnum):
    """What becomes of a slot whose entry has a run that has not ended."""

    ALLOW = "allow"
    SKIP = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry of the schedule; ``template`` is the envelope of its task but for the id and the times."""

    name: str
    task: AnyTask
    template: Envelope
    timetable: Timetable
    misfire: Misfire = Misfire.LATEST
    jitter: float = 0.0

    def due(self, slot: float, now: float) -> Due:
        """Return a slot with the task to enqueue for it."""
        start = slot + self.jitter * _fraction(self.name, slot) if self.jitter else now
        envelope = msgspec.structs.replace(
            self.template, id=uuid.uuid4().hex, enqueued_at=now, run_after=start if start > now else None
        )
        return Due(self.name, slot, envelope)


class Reading(NamedTuple):
    """The valid entries of a schedule, and a sentence on each of the others."""

    entries: list[Entry]
    problems: list[str]


def read(schedule: Mapping[str, Any]) -> Reading:
    """Read a schedule as it stands in the settings; import the modules of its tasks."""
    entries, problems = [], []
    for name, value in schedule.items():
        try:
            entries.append(_entry(name, value))
        except ValueError as error:
            problems.append(f"{SETTING}[{name!r}] {error}.")
    return Reading(entries, problems)


def load(backend: str) -> list[Entry]:
    """Return the valid entries of the project whose tasks go to a backend; log what is wrong with the invalid ones."""
    entries, problems = read(conf.current().schedule)
    for problem in problems:
        logger.error("%s This entry does not run.", problem)
    if others := [entry for entry in entries if entry.task.backend != backend]:
        logger.info(
            "Left to the schedulers of other backends: %s",
            ", ".join(f"{entry.name} ({entry.task.backend})" for entry in others),
        )
    return [entry for entry in entries if entry.task.backend == backend]


# Keys of an entry: a value from the settings → what the entry holds, or ValueError with the reason ----------------


def _entry(name: object, value: object) -> Entry:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable() or name != name.strip():
        raise ValueError(f"must have a name of 1 to {MAX_NAME} printable characters, with no space at either end")
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a dictionary with 'task' and 'schedule', not {kind_of(value)}")
    _check_names(value, _KEYS, "key")
    for key in ("task", "schedule"):
        if key not in value:
            raise ValueError(f"has no {key!r}")
    task = _with_options(_task(value["task"]), value.get("options", {}))
    overlap = _choice(Overlap, "overlap", value.get("overlap", Overlap.ALLOW))
    return Entry(
        name=name,
        task=task,
        template=_template(name, task, value, overlap),
        timetable=_of_key("schedule", lambda: timetable(value["schedule"], _zone(value.get("timezone")))),
        misfire=_choice(Misfire, "misfire", value.get("misfire", Misfire.LATEST)),
        jitter=_jitter(value.get("jitter", 0)),
    )


def _of_key[T](key: str, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except ValueError as error:
        raise ValueError(f"has a {key} that {error}") from error


def _check_names(value: Mapping[Any, Any], valid: Sequence[str], what: str) -> None:
    for name in value:
        if name not in valid:
            raise ValueError(f"has an unknown {what} {name!r}.{conf.nearest(str(name), valid)}".rstrip("."))


def _choice[E: StrEnum](choices: type[E], key: str, value: Any) -> E:
    if value not in list(choices):
        names = [choice.value for choice in choices]
        raise ValueError(f"has {key} = {value!r}, which is none of {', '.join(names)}{_hint(value, names)}")
    return choices(value)


def _hint(value: object, valid: Collection[str]) -> str:
    return f".{conf.nearest(str(value), valid)}".rstrip(".")


def _zone(name: object) -> ZoneInfo:
    if name is None:
        return ZoneInfo(get_default_timezone_name())
    try:
        return ZoneInfo(name)  # type: ignore[arg-type] # and if it is no string, it raises TypeError
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise ValueError(f"is in an unknown time zone {name!r}{_hint(name, available_timezones())}") from error


def _task(path: object) -> AnyTask:
    if not isinstance(path, str):
        raise ValueError(f"has the task {path!r}, which must be a dotted path")
    try:
        task = import_string(path)
    except Exception as error:
        raise ValueError(f"has the task {path!r}, which cannot be imported: {error}") from error
    if not isinstance(task, Task):
        raise ValueError(f"has the task {path!r}, which is not a task. Decorate the function with @task")
    return task


def _with_options(task: AnyTask, options: object) -> AnyTask:
    if not isinstance(options, Mapping):
        raise ValueError("must have a dictionary as options")
    _check_names(options, _OPTIONS, "option")
    if not isinstance(task, VTask) and (beyond := options.keys() - set(_PLAIN_OPTIONS)):
        names = ", ".join(sorted(beyond))
        raise ValueError(f"has options that need a task made with @task of django_vtasks: {names}")
    try:
        return task.using(**options)
    except (InvalidTask, ImproperlyConfigured, TypeError, ValueError) as error:
        raise ValueError(f"has options that are not valid: {_without_stop(error)}") from error


def _template(name: str, task: AnyTask, value: Mapping[str, Any], overlap: Overlap) -> Envelope:
    args, kwargs = value.get("args", ()), value.get("kwargs", {})
    if not isinstance(args, list | tuple):
        raise ValueError(f"must have a list or tuple as args, not {kind_of(args)}")
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        raise ValueError(f"must have a dictionary as kwargs, whose keys are names, not {kind_of(kwargs)}")
    try:
        envelope = Template(task, max_rescues=conf.current().max_rescues).filled(args, kwargs)
        if overlap is Overlap.SKIP:
            envelope = msgspec.structs.replace(envelope, unique=_lock(name, envelope))
        wire.encode(envelope)
    except TypeError as error:
        raise ValueError(f"has arguments that are not JSON: {_without_stop(error)}") from error
    return envelope


def _lock(name: str, envelope: Envelope) -> Unique:
    """Return the lock that a run of the entry holds to its end: its own, or the task's if that does the same."""
    if envelope.unique is None:
        return Unique(key=hashlib.sha256(f"{SETTING} {name}".encode()).hexdigest())
    if envelope.unique.ttl is not None:
        raise ValueError("has overlap = 'skip', which a unique task with a ttl cannot have: it has one lock, not two")
    return envelope.unique


def _jitter(value: object) -> float:
    seconds = as_seconds(value)
    if seconds is None or not 0 <= seconds <= LONGEST:
        raise ValueError(f"has jitter = {value!r}, which must be a number of seconds, 0 or more")
    return seconds


def _without_stop(error: Exception) -> str:
    return str(error).strip().removesuffix(".")


def _fraction(name: str, slot: float) -> float:
    """Return a number from 0 to 1, evenly spread, that is the same for everybody who asks for a slot."""
    digest = hashlib.blake2b(f"{name} {slot!r}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
