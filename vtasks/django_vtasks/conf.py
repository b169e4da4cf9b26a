"""Settings and environment → one validated, frozen Config; the only reader of Django's settings."""

import difflib
import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, NamedTuple

from django.conf import settings
from django.core.signals import setting_changed
from django.tasks import DEFAULT_TASK_BACKEND_ALIAS, DEFAULT_TASK_QUEUE_NAME

from django_vtasks.errors import ConfigError, kind_of

PREFIX = "VTASKS_"
MAX_QUEUE_NAME = 100
QUEUE_NAME_RULE = f"a string of 1 to {MAX_QUEUE_NAME} printable characters, with no space at either end"
MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Batch:
    """How a batch queue collects: up to ``count`` members, at most ``timeout`` seconds after the first."""

    count: int = 100
    timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class Queue:
    """What one queue asks for beyond the defaults."""

    name: str
    concurrency: int | None = None
    processes: int | None = None
    batch: Batch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings, validated; durations are in seconds."""

    queues: Mapping[str, Queue] = field(default_factory=lambda: {DEFAULT_TASK_QUEUE_NAME: Queue("default")})
    concurrency: int = 20
    processes: int | str = 1
    schedule: Mapping[str, Any] = field(default_factory=dict)
    run_scheduler: bool = True
    dlq_cap: int = 1000
    valkey_prefix: str = "{vt}"
    metrics_port: int | None = None
    health_port: int | None = None
    worker_id: str | None = None
    backend: str = DEFAULT_TASK_BACKEND_ALIAS
    max_rescues: int = 2
    lease: float = 15.0
    shutdown_timeout: float = 25.0
    task_context: str | None = None

    @property
    def batch_queues(self) -> Mapping[str, Batch]:
        """Return the queues that batch, by name."""
        return {queue.name: queue.batch for queue in self.queues.values() if queue.batch is not None}


class Problem(NamedTuple):
    """A setting that is wrong, and what to do about it."""

    setting: str
    message: str


def current() -> Config:
    """Return the configuration in force; raise ConfigError that names every wrong setting."""
    config, found = _load()
    if found:
        raise ConfigError(" ".join(problem.message for problem in found))
    return config


def problems() -> tuple[Problem, ...]:
    """Return what is wrong with the settings, for the system checks."""
    return _load()[1]


def use_tz() -> bool:
    """Tell whether the project's datetimes are aware."""
    return bool(settings.USE_TZ)


def is_queue_name(name: object) -> bool:
    """Tell whether every store can hold a queue's name, and tell it from any other: see QUEUE_NAME_RULE."""
    return isinstance(name, str) and 0 < len(name) <= MAX_QUEUE_NAME and name.isprintable() and name == name.strip()


def nearest(name: str, valid: Collection[str], *, cutoff: float = 0.6) -> str:
    """Return `` Did you mean …?`` for a misspelt name, or nothing when none is near."""
    matches = difflib.get_close_matches(name, valid, n=1, cutoff=cutoff)
    return f" Did you mean {matches[0]!r}?" if matches else ""


# Parsers: a value from settings or the environment → the field's value, or ValueError with the reason ----------


def _integer(minimum: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, str):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise ValueError(f"must be a whole number, at least {minimum}")
        return value

    return parse


def _seconds(value: Any) -> float:
    if isinstance(value, str):
        value = float(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise ValueError("must be a positive number of seconds")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a non-empty string")
    return value


def _flag(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
        return value.lower() in {"1", "true", "yes", "on"}
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


def _port(value: Any) -> int:
    port = _integer(1)(value)
    if port > MAX_PORT:
        raise ValueError(f"must be a port number, at most {MAX_PORT}")
    return port


def _port_or_none(value: Any) -> int | None:
    return None if _integer(0)(value) == 0 else _port(value)


def _processes(value: Any) -> int | str:
    return "auto" if value == "auto" else _integer(1)(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, Mapping):
        raise ValueError("must be a dictionary")
    return value


def _dotted_path(value: Any) -> str:
    path = _text(value)
    if "." not in path:
        raise ValueError("must be the dotted path of a callable")
    return path


def _queue_name(name: Any) -> str:
    if not is_queue_name(name):
        raise ValueError(f"has {name!r} as a queue name; a name is {QUEUE_NAME_RULE}")
    return str(name)


def _options(value: Any, parsers: Mapping[str, Callable[[Any], Any]], where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"must have a dictionary as {where}")
    parsed = {}
    for name, option in value.items():
        if name not in parsers:
            raise ValueError(f"has an unknown option {name!r} in {where}.{nearest(str(name), parsers)}")
        try:
            parsed[name] = parsers[name](option)
        except (TypeError, ValueError) as error:
            raise ValueError(f"has {name} = {option!r} in {where}, which {error}") from error
    return parsed


def _batch(value: Any, where: str) -> Batch:
    return Batch(**_options(value, {"count": _integer(1), "timeout": _seconds}, where))


def _queues(value: Any) -> dict[str, Queue]:
    if isinstance(value, str):
        is_json = value.lstrip().startswith(("[", "{"))
        value = json.loads(value) if is_json else [name.strip() for name in value.split(",")]
    if isinstance(value, Mapping):
        return {_queue_name(name): _queue(name, options) for name, options in value.items()}
    if not isinstance(value, list | tuple | set | frozenset):
        raise ValueError("must be a list of names or a dictionary of names and options")
    return {name: Queue(name) for name in map(_queue_name, value)}


def _queue(name: str, options: Any) -> Queue:
    where = f"queue {name!r}"
    parsers = {
        "concurrency": _integer(1),
        "processes": _integer(1),
        "batch": lambda value: _batch(value, f"batch of {where}"),
    }
    return Queue(name, **_options({} if options is None else options, parsers, where))


def _batch_queues(value: Any) -> dict[str, Queue]:
    return {
        _queue_name(name): Queue(name, batch=_batch(options, f"queue {name!r}"))
        for name, options in _mapping(value).items()
    }


_PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "queues": _queues,
    "batch_queues": _batch_queues,
    "concurrency": _integer(1),
    "processes": _processes,
    "schedule": _mapping,
    "run_scheduler": _flag,
    "dlq_cap": _integer(1),
    "valkey_prefix": _text,
    "metrics_port": _port_or_none,
    "health_port": _port,
    "worker_id": _text,
    "backend": _text,
    "max_rescues": _integer(0),
    "lease": _seconds,
    "shutdown_timeout": _seconds,
    "task_context": _dotted_path,
}
_OPTIONAL = {"metrics_port", "health_port", "worker_id", "task_context"}
_HOLDS_ARGUMENTS = {"schedule"}


@cache
def _load() -> tuple[Config, tuple[Problem, ...]]:
    values: dict[str, Any] = {}
    found = _unknown_settings()
    for name, parse in _PARSERS.items():
        setting = PREFIX + name.upper()
        raw = getattr(settings, setting, os.environ.get(setting, _MISSING))
        if raw is _MISSING or (raw is None and name in _OPTIONAL):
            continue
        try:
            values[name] = parse(raw)
        except (TypeError, ValueError) as error:
            reason = str(error) if error.args and not isinstance(error, json.JSONDecodeError) else "is not valid"
            shown = kind_of(raw) if name in _HOLDS_ARGUMENTS else repr(raw)
            found.append(Problem(setting, f"{setting} {_readable(reason)} (it is {shown})."))
    queues = values.pop("queues", {})
    for name, queue in values.pop("batch_queues", {}).items():
        queues[name] = replace(queues.get(name, queue), batch=queue.batch)
    values["queues"] = {DEFAULT_TASK_QUEUE_NAME: Queue(DEFAULT_TASK_QUEUE_NAME), **queues}
    return Config(**values), tuple(found)


_MISSING: Any = object()


def _readable(reason: str) -> str:
    """Turn the message of int() or float() into one about a setting."""
    return "is not a number" if reason.startswith(("invalid literal", "could not convert")) else reason


def _unknown_settings() -> list[Problem]:
    known = {PREFIX + name.upper() for name in _PARSERS}
    given = {name for name in dir(settings) if name.startswith(PREFIX)}
    found = [
        Problem(name, f"{name} is not a setting of django-vtasks.{nearest(name, known)}")
        for name in sorted(given - known)
    ]
    # The environment is everybody's: only a near miss is held to be meant for us.
    found.extend(
        Problem(name, f"Environment variable {name} is not a setting of django-vtasks.{hint}")
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and name not in known and (hint := nearest(name, known, cutoff=0.9))
    )
    return found


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting.startswith(PREFIX):
        _load.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_vtasks.conf")

assert {f.name for f in fields(Config)} == _PARSERS.keys() - {"batch_queues"}
