"""What a worker and its store take up, looked at from outside."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psutil
from django.db import close_old_connections

from load_tests.chaos.ground import Served
from load_tests.chaos.grounds import ValkeyGround
from load_tests.chaos.run import Run
from tests.integration.workers import WorkerProcess

MB = 1e6


def sample(run: Run) -> dict[str, float]:
    """Return every figure as it is now; of processes those of the first worker."""
    return dict(_of_processes(run.workers[0])) | dict(_of_store(run))


def _of_processes(worker: WorkerProcess) -> Iterator[tuple[str, float]]:
    actors = set(worker.actors().values())
    sums = dict.fromkeys(("PSS", "fds", "threads"), 0.0)
    stays = dict(sums)
    processes = worker.processes()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found = {
                "PSS": process.memory_full_info().pss / MB,
                "fds": float(process.num_fds()),
                "threads": float(process.num_threads()),
            }
            for name, value in found.items():
                sums[name] += value
                stays[name] += value if process.pid not in actors else 0.0
    yield "MB of the tree", sums["PSS"]
    yield "MB of what is never replaced", stays["PSS"]
    yield "fds of the tree", sums["fds"]
    yield "fds of what is never replaced", stays["fds"]
    yield "threads of the tree", sums["threads"]
    yield "processes", float(len(processes))


def _of_store(run: Run) -> Iterator[tuple[str, float]]:
    if isinstance(run.ground, ValkeyGround):
        with run.ground.client() as client:
            facts: dict[str, Any] = client.info()
            yield "keys", float(client.dbsize())
        yield "MB of the server", facts["used_memory"] / MB
        yield "connections", float(run.ground.connections())
        yield "failed tasks", float(run.broker.failed_count())
        return
    from django.apps import apps
    from django.db import models

    close_old_connections()
    tables = apps.get_app_config("vtasks").get_models()
    yield "rows", float(sum(models.QuerySet(table).count() for table in tables))
    yield "failed tasks", float(run.broker.failed_count())
    if isinstance(run.ground, Served):
        yield "MB of the server", sum(map(_own_memory, run.ground.processes()))
        yield "connections", float(run.ground.connections())


def _own_memory(process: psutil.Process) -> float:
    """Return what a process shares with nobody: buffers that all share fill until they are as large as they may be."""
    try:
        found = process.memory_info()
        return float(found.rss - found.shared) / MB
    except psutil.NoSuchProcess:
        return 0.0
