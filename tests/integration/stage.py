"""The set of an integration test: an empty store, a ledger, and the workers that play on them."""

import itertools
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.tasks import task_backends

from django_vtasks.backends.base import BrokerBackend, Calls
from django_vtasks.brokers.base import FailedTask
from django_vtasks.db.models import TaskRow
from django_vtasks.results import AnyResult
from tests.integration.ledger import Ledger
from tests.integration.probes import PATIENCE, eventually
from tests.integration.stores import Store
from tests.integration.workers import RUNWORKER, WorkerProcess


@dataclass
class Stage:
    """``alias`` is the store in this process, ``environment`` what tells the workers the same."""

    alias: str
    store: Store
    ledger: Ledger
    logs: Path
    environment: dict[str, str]
    workers: list[WorkerProcess] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @property
    def backend(self) -> BrokerBackend:
        backend = task_backends["default"]
        assert isinstance(backend, BrokerBackend)
        return backend

    @property
    def broker(self) -> Any:
        """Return the broker of this process, which is a coordinator too."""
        return self.backend.broker

    def enqueue_many(self, calls: Calls) -> list[AnyResult | None]:
        return self.backend.enqueue_many(calls)

    def start(self, *options: str, command: tuple[str, ...] = RUNWORKER, **environment: str) -> WorkerProcess:
        """Start a worker; keywords are environment variables, such as VTASKS_LEASE."""
        worker = WorkerProcess(
            self.logs / f"worker-{next(self._numbers)}.log",
            *options,
            environment=self.environment | environment,
            command=command,
        )
        self.workers.append(worker)
        return worker

    def worker(self, *options: str, command: tuple[str, ...] = RUNWORKER, **environment: str) -> WorkerProcess:
        """Start a worker and return it when it takes tasks."""
        return self.start(*options, command=command, **environment).until_ready()

    def stop(self) -> None:
        """End all workers; pytest shows what is written here when the test has failed."""
        for number, worker in enumerate(self.workers, 1):
            worker.kill()
            sys.stdout.write(f"── worker {number}, exit code {worker.process.returncode}\n{worker.log[-10_000:]}\n")

    def rows(self, **conditions: object) -> list[TaskRow]:
        """Return the tasks with these values of their columns."""
        return self.store.rows(**conditions)

    def running(self) -> int:
        return self.store.running()

    def size(self) -> int:
        """Return how many tasks are in the store, whatever their queue and state."""
        return self.store.size()

    def until_empty(self, within: float = PATIENCE) -> None:
        """Wait until every task has ended and is settled."""
        eventually(lambda: self.size() == 0, "all tasks are settled", within)

    def failed(self) -> dict[str, FailedTask]:
        """Return the failed list by task id."""
        return {failed.id: failed for failed in self.broker.failed(10_000)}
