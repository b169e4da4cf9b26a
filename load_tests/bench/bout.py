"""One contender in one scenario, once: an empty store, a producer, workers, and what they have written."""

import json
import math
import os
import signal
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple, Self

from load_tests.bench import environment, machine, records
from load_tests.bench.contender import CONCURRENCY, Contender
from load_tests.bench.producer import Producer
from load_tests.bench.stores import Store
from load_tests.bench.workers import Workers

PATIENCE = 30.0
"""Seconds without a task after which no more is to come."""
PATIENT_FOR = 1 / 3
"""The part of a short wait after which the same is so."""
FILL_WITHIN = 600.0
POLL = 0.02
LONG_ENOUGH = 0.5
"""Seconds of work whose CPU time says something: the kernel counts it in hundredths of a second."""
LINGER = 0.3
"""Seconds after the last task in which one may run again."""


class Sample(NamedTuple):
    """How far it is, and what that has cost until now."""

    begun: int
    worker_cpu: float
    server_cpu: float | None
    machine_cpu: float
    at: float


class Costs(NamedTuple):
    """What happened between two samples; all None where there was no time to see it."""

    worker: float | None = None
    """CPU milliseconds of the workers for each task."""
    server: float | None = None
    foreign: float | None = None
    """How many cores were used by whoever is not measured, the harness among them."""


def costs(before: Sample, after: Sample) -> Costs:
    """Return what it has cost from one sample to the next."""
    seconds, tasks = after.at - before.at, after.begun - before.begun
    if seconds < LONG_ENOUGH:
        return Costs()
    worker = after.worker_cpu - before.worker_cpu
    server = (after.server_cpu or 0.0) - (before.server_cpu or 0.0)
    foreign = after.machine_cpu - before.machine_cpu - worker - server
    return Costs(
        worker=1000 * worker / tasks if tasks else None,
        server=1000 * server / tasks if tasks and after.server_cpu is not None else None,
        foreign=max(0.0, foreign / seconds),
    )


class StalledError(Exception):
    """Nothing happens; the message has the workers' last words."""


class Bout:
    """A place of its own for one measurement, gone at the end."""

    def __init__(self, contender: Contender, python: Path, store: Store, *, seed: int, share: float = 1.0) -> None:
        self.contender = contender
        self.store = store
        self.share = share
        """How much shorter than usual all that lasts for some time may be."""
        self._python, self._seed = python, seed
        self._stack = ExitStack()
        self._runs = 0
        self.workers: Workers | None = None
        self._all_workers: list[Workers] = []
        self.has_stalled = False
        """Whether tasks that were waited for did not come."""
        self._others = 0
        """How many clients the server had before there were workers."""

    def __enter__(self) -> Self:
        with ExitStack() as failed:
            failed.callback(self._stack.close)
            self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="vtasks-bench-")))
            self._stack.callback(self._kill)
            self.begin_anew()
            failed.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def begin_anew(self) -> None:
        """Empty the store and forget what ran."""
        self._kill()
        self.workers, self._runs = None, self._runs + 1
        self.records = self._directory / f"records-{self._runs}"
        self.records.mkdir()
        values = {"BENCH_RECORDS": str(self.records), "BENCH_SEED": str(self._seed)}
        for name, value in self.store.empty(self.records).items():
            values[name] = value if isinstance(value, str) else json.dumps(value)
        self._environ = environment.environ(self._python, self.contender, values)
        self.producer = self._stack.enter_context(Producer(self._python, self._environ, self._directory))
        self.producer.ask("prepare")

    def fill(self, task: str, count: int, first: int = 0, seconds: float = FILL_WITHIN) -> int:
        """Enqueue tasks with numbers from ``first``; return how many, in the time."""
        return int(self.producer.ask("fill", task=task, first=first, number=count, seconds=seconds)["count"])

    def start(
        self, processes: int = 1, concurrency: int = CONCURRENCY, queue: str = "default", receivers: str = ""
    ) -> Workers:
        """Start workers; ``receivers`` is the kind of what they connect to the signals that tell of a run."""
        self._others = self.store.connections() or 0
        commands = self.contender.worker(processes, concurrency, queue)
        environ = self._environ | {"BENCH_CONCURRENCY": str(concurrency), "BENCH_RECEIVERS": receivers}
        self.workers = Workers(commands, environ, self._directory)
        self._all_workers.append(self.workers)
        return self.workers

    @property
    def orphaned(self) -> float:
        """The CPU time of workers for which nobody could wait."""
        return sum(workers.orphaned for workers in self._all_workers)

    def sample(self) -> Sample:
        """Return how far the workers are."""
        assert self.workers is not None
        return Sample(
            records.written(self.records),
            self.workers.cpu_seconds(),
            self.store.cpu_seconds(),
            machine.busy_seconds(),
            time.monotonic(),
        )

    def wait_for(self, count: int, *, strict: bool = False, within: float = math.inf) -> bool:
        """Return True when so many tasks have begun, False when no more do, or not in time; or raise."""
        assert self.workers is not None
        began = time.monotonic()
        patience = min(PATIENCE, PATIENT_FOR * within)
        seen, deadline = -1, began + patience
        while (now := records.written(self.records)) < count:
            if now > seen:
                seen, deadline = now, time.monotonic() + patience
            if self.workers.have_ended() or time.monotonic() > deadline:
                if strict or not now:
                    raise StalledError(f"{now} of {count} tasks ran.\n{self.workers.last_words()}")
                self.has_stalled = True
                return False
            if time.monotonic() - began > within:
                return False
            time.sleep(POLL)
        return True

    def written(self) -> int:
        """Return how many tasks have begun."""
        return records.written(self.records)

    def rate_so_far(self) -> tuple[float, float]:
        """Kill the workers; return how many tasks a second they began, and for how many seconds."""
        assert self.workers is not None
        self.workers.kill()
        runs = records.read(self.records)
        return records.rate(runs), runs[-1].at - runs[0].at

    def count_connections(self) -> int | None:
        """Return how many connections the workers have to the server."""
        now = self.store.connections()
        return None if now is None else now - self._others

    def end(self, expected: Iterable[int]) -> tuple[list[records.Run], records.Exactness]:
        """Stop the workers; return what ran, and whether it is what should have."""
        assert self.workers is not None
        time.sleep(LINGER)
        self.workers.stop()
        runs = records.read(self.records)
        return runs, records.exactness(runs, set(expected))

    def note_apart(self) -> None:
        """Let what begins from now on be noted apart from what has begun before."""
        self.records = self._directory / f"records-{self._runs}-again"
        self.records.mkdir()
        self._environ["BENCH_RECORDS"] = str(self.records)

    def wait_until_begun(self, number: int) -> None:
        """Return when the task of a number has begun; raise when it does not."""
        assert self.workers is not None
        deadline = time.monotonic() + PATIENCE
        while all(run.number != number for run in records.read(self.records)):
            if self.workers.have_ended() or time.monotonic() > deadline:
                raise StalledError(f"Task {number:,} has not begun.\n{self.workers.last_words()}")
            time.sleep(POLL)

    def kill_worker_of(self, number: int) -> float:
        """Kill the process that runs a task, at once; return when."""
        pid = next(run.pid for run in records.read(self.records) if run.number == number)
        killed = time.monotonic()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return killed

    def _kill(self) -> None:
        if self.workers:
            self.workers.kill()
