"""The benchmark's Django app: its worker tells when it began and ended."""

import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from django.apps import AppConfig
from django.tasks.signals import task_enqueued  # noqa: TID251 - received as in a project, not sent
from setproctitle import getproctitle

from django_vtasks.signals import worker_started, worker_stopped


class LoadTestsConfig(AppConfig):
    """Write the report of a worker to the file that LOAD_TEST_REPORT names."""

    name = "load_tests"

    def ready(self) -> None:
        """Listen to the worker."""
        if path := os.environ.get("LOAD_TEST_STAMPS"):
            worker_started.connect(partial(_stamp_ready, path), weak=False)
        if (path := os.environ.get("LOAD_TEST_TICKS")) is not None:
            task_enqueued.connect(_Notes(Path(path)).add, weak=False)
        if path := os.environ.get("LOAD_TEST_REPORT"):
            report = _Report(Path(path))
            worker_started.connect(report.begin, weak=False)
            worker_stopped.connect(report.end, weak=False)


def stamp(path: str, what: str) -> None:
    """Note the time of something that happened, in one write that no other process comes between."""
    with Path(path).open("a", buffering=1) as file:
        file.write(json.dumps([what, time.time()]) + "\n")


def _stamp_ready(path: str, **kwargs: Any) -> None:
    if "suspects" not in getproctitle():  # those come and go
        stamp(path, "ready")


class _Notes:
    """Times in a file, which has them within a second of the next."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._second = 0

    def add(self, **kwargs: Any) -> None:
        now = time.time()
        if self._file is None:
            self._file = self._path.open("a")
        if int(now) > self._second:
            self._file.flush()
            self._second = int(now)
        self._file.write(f"{now}\n")


class _Report:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._began = 0.0
        self._cpu = 0.0

    def begin(self, **kwargs: Any) -> None:
        self._began, self._cpu = time.perf_counter(), time.process_time()
        self._path.with_suffix(".started").touch()

    def end(self, **kwargs: Any) -> None:
        from load_tests.tasks import latencies

        # perf_counter() is the same clock for all processes of a machine.
        report = {
            "began": self._began,
            "ended": time.perf_counter(),
            "cpu_seconds": time.process_time() - self._cpu,
            "latencies": latencies,
        }
        with self._path.open("a") as file:
            file.write(json.dumps(report) + "\n")
