"""Config → what runs in a worker: for each queue an actor, and one lease for all of them."""

import asyncio
import logging
import os
import platform
import secrets
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from django.tasks import task_backends
from django.utils.module_loading import import_string

from django_vtasks import conf, observers
from django_vtasks.backends.base import BrokerBackend
from django_vtasks.brokers.base import Coordinator, Owner
from django_vtasks.errors import ConfigError
from django_vtasks.observers import Observer
from django_vtasks.worker.executor import ContextHook
from django_vtasks.worker.fetcher import WAIT
from django_vtasks.worker.lease import LeaseKeeper
from django_vtasks.worker.registry import Registry
from django_vtasks.worker.worker import QueueWorker, Recipe

logger = logging.getLogger(__name__)

SWITCH_INTERVAL = 0.0005
"""Seconds for which a thread may keep the interpreter: the loop and the broker's thread take turns often."""
BURST_LOOK_EVERY = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one worker process shall do."""

    backend: str
    queues: Sequence[str]
    concurrency: int | None = None
    node: str
    hook: ContextHook | None = None
    burst: bool = False


def plan(
    *,
    backend: str | None = None,
    queues: Collection[str] = (),
    concurrency: int | None = None,
    worker_id: str | None = None,
    burst: bool = False,
) -> Plan:
    """Return the plan for what the command line asks; raise ConfigError naming what cannot be done."""
    config = conf.current()
    alias = backend or config.backend
    if concurrency is not None and concurrency < 1:
        raise ConfigError(f"--concurrency must be at least 1, not {concurrency}.")
    return Plan(
        backend=alias,
        queues=_queues(backend_with_broker(alias).queues, config, queues),
        concurrency=concurrency,
        node=_node(worker_id or config.worker_id),
        hook=_hook(config.task_context),
        burst=burst,
    )


def _queues(valid: Collection[str], config: conf.Config, asked: Collection[str]) -> Sequence[str]:
    """Return the queues to work on: those asked for, else all; ``valid`` is empty when any name is."""
    known = sorted({*valid, *config.queues} - config.batch_queues.keys())
    for queue in asked:
        if queue in config.batch_queues:
            raise ConfigError(f"Queue {queue!r} is a batch queue; this version runs batches in tests only.")
        if valid and queue not in known:
            raise ConfigError(f"Queue {queue!r} is not in VTASKS_QUEUES.{conf.nearest(queue, known)}")
    return list(dict.fromkeys(asked)) or known


class Worker:
    """Runs a plan in this process, from start-up until a signal or the end of the burst."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._config = conf.current()
        backend = backend_with_broker(plan.backend)
        self._broker = backend.broker
        self._observer = Observer(type(backend))
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()

    async def run(self) -> bool:
        """Run until stopped; return whether every task ended by itself, so that nothing is left behind."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        self._handle_signals()
        for setting in _without_effect(self._config):
            logger.warning("%s has no effect on this version's worker", setting)
        registry = Registry()
        registry.load()
        lease = await self._take_lease()
        actors = [self._actor(queue, registry) for queue in self._plan.queues]
        try:
            if not self._stopping.is_set():
                await self._work(actors)
            return await self._drain(actors)
        finally:
            await asyncio.to_thread(lease.stop)
            await self._broker.aclose()

    def stop(self, *, at_once: bool = False) -> None:
        """Drain, or with ``at_once`` give everything back now."""
        if at_once:
            self._at_once.set()
        self._stopping.set()

    async def _work(self, actors: list[QueueWorker]) -> None:
        for actor in actors:
            actor.start()
        observers.worker_began(type(self), self._plan.node, self._plan.queues)
        if self._plan.burst:
            await self._until_drained(actors)
        else:
            await self._stopping.wait()

    async def _until_drained(self, actors: list[QueueWorker]) -> None:
        """Return when all actors were idle, and then each found nothing twice more.

        Once does not tell: that claim may have been under way before the last task enqueued another.
        """
        quiet_at: list[int] = []
        while not self._stopping.is_set():
            rounds = [actor.idle_rounds for actor in actors]
            if quiet_at and all(now >= then + 2 for now, then in zip(rounds, quiet_at, strict=True)):
                return
            if not quiet_at or any(now < then for now, then in zip(rounds, quiet_at, strict=True)):
                quiet_at = rounds if all(rounds) else []
            await asyncio.sleep(BURST_LOOK_EVERY)

    async def _drain(self, actors: list[QueueWorker]) -> bool:
        logger.info("Worker %s drains", self._plan.node)
        timeout = self._config.shutdown_timeout
        drained = await asyncio.gather(*(actor.drain(timeout, at_once=self._at_once) for actor in actors))
        observers.worker_ended(type(self), self._plan.node, self._plan.queues)
        return all(drained)

    async def _take_lease(self) -> LeaseKeeper:
        registered = asyncio.Event()
        loop = asyncio.get_running_loop()
        coordinator: Coordinator = self._broker  # type: ignore[assignment]
        keeper = LeaseKeeper(
            coordinator,
            self._plan.node,
            self._config.lease,
            lambda: loop.call_soon_threadsafe(registered.set),
        )
        keeper.start()
        await _first(registered, self._stopping)
        return keeper

    def _actor(self, queue: str, registry: Registry) -> QueueWorker:
        own = self._config.queues.get(queue)
        concurrency = self._plan.concurrency or (own and own.concurrency) or self._config.concurrency
        return QueueWorker(
            Recipe(
                broker=self._broker,
                owner=Owner(self._plan.node, f"{queue}#1"),
                queue=queue,
                concurrency=concurrency,
                registry=registry,
                observer=self._observer,
                hook=self._plan.hook,
                wait=0.0 if self._plan.burst else WAIT,
            )
        )

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self.stop,
            signal.SIGINT: self._interrupted,
            signal.SIGQUIT: lambda: self.stop(at_once=True),
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)

    def _interrupted(self) -> None:
        """Drain at the first SIGINT, stop at once at the second."""
        self.stop(at_once=self._stopping.is_set())


def _without_effect(config: conf.Config) -> list[str]:
    """Return what is set but not built yet, so that nobody waits for it in vain."""
    later = {
        "VTASKS_BATCH_QUEUES": config.batch_queues,
        "VTASKS_SCHEDULE": config.schedule,
        "VTASKS_PROCESSES": config.processes != 1,
        "VTASKS_METRICS_PORT": config.metrics_port,
        "VTASKS_HEALTH_PORT": config.health_port,
    }
    return [setting for setting, value in later.items() if value]


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def backend_with_broker(alias: str) -> BrokerBackend:
    """Return the backend with this alias; raise ConfigError when it has no broker for a worker."""
    backend = task_backends[alias]
    if not isinstance(backend, BrokerBackend):
        raise ConfigError(f"TASKS[{alias!r}] is a {type(backend).__name__}, which has nothing for a worker to do.")
    if errors := [message.msg for message in backend.check() if message.is_serious()]:
        raise ConfigError(" ".join(errors))
    return backend


def _hook(path: str | None) -> ContextHook | None:
    if path is None:
        return None
    try:
        hook: ContextHook = import_string(path)
    except ImportError as error:
        raise ConfigError(f"VTASKS_TASK_CONTEXT: {error}") from error
    if not callable(hook):
        raise ConfigError(f"VTASKS_TASK_CONTEXT names {path!r}, which is not callable.")
    return hook


def _node(worker_id: str | None) -> str:
    """Return a name that no other process has or had, however alike the hosts and pids."""
    name = worker_id or os.environ.get("DYNO") or platform.node() or "worker"
    return f"{name.replace(':', '-')[:60]}-{os.getpid()}-{secrets.token_hex(4)}"
