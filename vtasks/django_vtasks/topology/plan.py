"""Config and command line → what one worker shall do."""

import os
import platform
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from django.tasks import task_backends
from django.utils.module_loading import import_string

from django_vtasks import conf
from django_vtasks.backends.base import BrokerBackend
from django_vtasks.errors import ConfigError
from django_vtasks.topology import capacity


@dataclass(frozen=True, slots=True)
class QueuePlan:
    """How one queue is served: ``processes`` actors, each running up to ``concurrency`` tasks at a time.

    Those of a queue with a ``batch`` are batching actors: it is up to so many functions that they run at a time.
    """

    name: str
    processes: int
    concurrency: int
    batch: conf.Batch | None = None

    @property
    def most_running(self) -> int:
        """Return how many tasks one actor runs at a time, at most."""
        return self.concurrency if self.batch is None else self.batch.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one worker shall do; durations are in seconds."""

    backend: str
    node: str
    queues: Sequence[QueuePlan]
    hook: str | None
    lease: float
    shutdown_timeout: float
    burst: bool = False
    scheduler: bool = False
    health_port: int | None = None
    health_file: str | None = None
    metrics_port: int | None = None
    log_level: int | None = None
    """Of the worker's own handler in each process; None leaves logging to the project."""

    @property
    def actors(self) -> int:
        """Return how many actors this worker has when nothing is wrong."""
        return sum(queue.processes for queue in self.queues) + self.scheduler

    @property
    def queue_names(self) -> list[str]:
        """Return the names of the queues that are served."""
        return [queue.name for queue in self.queues]


def plan(  # noqa: PLR0913 - the command line has so many
    *,
    backend: str | None = None,
    queues: Collection[str] = (),
    concurrency: int | None = None,
    processes: int | str | None = None,
    worker_id: str | None = None,
    health_port: int | None = None,
    health_file: str | None = None,
    metrics_port: int | None = None,
    burst: bool = False,
    scheduler: bool = False,
    log_level: int | None = None,
) -> Plan:
    """Return the plan for what the command line asks; raise ConfigError naming what cannot be done."""
    config = conf.current()
    alias = backend or config.backend
    if concurrency is not None and concurrency < 1:
        raise ConfigError(f"--concurrency must be at least 1, not {concurrency}.")
    if burst and scheduler:
        raise ConfigError("--burst ends when no task is left, and --scheduler never has done its work: choose one.")
    processes = _processes(processes)
    names = _queues(backend_with_broker(alias).queues, config, queues)
    hook_of(config.task_context)
    return Plan(
        backend=alias,
        node=_node(worker_id or config.worker_id),
        queues=[_queue_plan(config, name, concurrency, processes, len(names)) for name in names],
        hook=config.task_context,
        lease=config.lease,
        shutdown_timeout=config.shutdown_timeout,
        burst=burst,
        scheduler=scheduler,
        health_port=config.health_port if health_port is None else health_port,
        health_file=health_file,
        metrics_port=(config.metrics_port if metrics_port is None else metrics_port) or None,
        log_level=log_level,
    )


def _queue_plan(
    config: conf.Config, name: str, concurrency: int | None, processes: int | str | None, queues: int
) -> QueuePlan:
    """Return how a queue is served: as asked, else as its own setting says, else as all are."""
    own = config.queues.get(name, conf.Queue(name))
    wanted = own.processes or 1 if own.batch is not None else processes or own.processes or config.processes
    return QueuePlan(
        name,
        capacity.auto_processes(queues) if wanted == "auto" else int(wanted),
        concurrency or own.concurrency or config.concurrency,
        own.batch,
    )


def _processes(asked: int | str | None) -> int | str | None:
    """Return what --processes says: a number, 'auto', or nothing."""
    if asked is None or asked == "auto":
        return asked
    try:
        number = int(asked)
    except ValueError:
        number = 0
    if number < 1:
        raise ConfigError(f"--processes must be 'auto' or a number of at least 1, not {asked!r}.")
    return number


def _queues(valid: Collection[str], config: conf.Config, asked: Collection[str]) -> Sequence[str]:
    """Return the queues to work on: those asked for, else all; ``valid`` is empty when any name is."""
    known = sorted({*valid, *config.queues})
    for queue in asked:
        if valid and queue not in known:
            raise ConfigError(f"Queue {queue!r} is not in VTASKS_QUEUES.{conf.nearest(queue, known)}")
    return list(dict.fromkeys(asked)) or known


def slot_of(queue: QueuePlan, number: int) -> str:
    """Return the name of an actor of a queue."""
    if queue.batch is None:
        return f"{queue.name}#{number}"
    return f"{queue.name} (batch)" if queue.processes == 1 else f"{queue.name} (batch)#{number}"


def suspects_of(queue: str) -> str:
    """Return the name of the actor that runs the suspects of a queue."""
    return f"{queue} (suspects)"


def backend_with_broker(alias: str) -> BrokerBackend:
    """Return the backend with this alias; raise ConfigError when it has no broker for a worker."""
    backend = task_backends[alias]
    if not isinstance(backend, BrokerBackend):
        raise ConfigError(f"TASKS[{alias!r}] is a {type(backend).__name__}, which has nothing for a worker to do.")
    if errors := [message.msg for message in backend.check() if message.is_serious()]:
        raise ConfigError(" ".join(errors))
    return backend


def hook_of(path: str | None) -> Any:
    """Return the callable that VTASKS_TASK_CONTEXT names, or None; raise ConfigError when there is none there."""
    if path is None:
        return None
    try:
        hook = import_string(path)
    except ImportError as error:
        raise ConfigError(f"VTASKS_TASK_CONTEXT: {error}") from error
    if not callable(hook):
        raise ConfigError(f"VTASKS_TASK_CONTEXT names {path!r}, which is not callable.")
    return hook


def _node(worker_id: str | None) -> str:
    """Return a name that no other worker has or had, however alike the hosts and pids."""
    name = worker_id or os.environ.get("DYNO") or platform.node() or "worker"
    return f"{name.replace(':', '-')[:60]}-{os.getpid()}-{secrets.token_hex(4)}"
