"""What is measured, one function a scenario; each returns its figures by name."""

import asyncio
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import batched
from pathlib import Path
from typing import Any

from django.test import override_settings

from load_tests.stage import Worker

CONCURRENCY = 100
DRAIN_TIMEOUT = 300.0
STEADY_TASKS = 1000

type Figures = dict[str, float]
type Scenario = Callable[[int], Figures]


def drain_noop(count: int) -> Figures:
    """Drain ``count`` no-op ``async def`` tasks with one worker process."""
    return _drain("noop", count)


def drain_noop_sync(count: int) -> Figures:
    """Drain ``count`` no-op ``def`` tasks with one worker process."""
    return _drain("noop_sync", count)


def drain_noop_two(count: int) -> Figures:
    """Drain ``count`` no-op ``async def`` tasks with two worker processes."""
    return _drain("noop", count, "--processes=2")


def drain_batch(count: int) -> Figures:
    """Drain ``count`` members of a batch queue, 100 at a time, with one batching actor."""
    os.environ["VTASKS_BATCH_QUEUES"] = json.dumps({"batches": {"count": 100, "timeout": 1.0}})
    try:
        with empty_queue(), override_settings(VTASKS_BATCH_QUEUES={"batches": {}}):
            enqueue("noop_batch", count, queue_name="batches")
            report = Worker("--burst", "--queue=batches").finish(DRAIN_TIMEOUT)
            if waiting := left("batches"):
                raise RuntimeError(f"{waiting} of {count} members were not run.")
    finally:
        del os.environ["VTASKS_BATCH_QUEUES"]
    return {"members/s": count / report.seconds, "CPU ms/member": 1000 * report.cpu_seconds / count}


def drain_sleep(count: int) -> Figures:
    """Drain ``count`` tasks that sleep 10 ms, 100 at a time: at most 10,000 a second."""
    return _drain("sleep_10_ms", count)


def enqueue_bulk(count: int) -> Figures:
    """Enqueue in bulks of 1,000."""
    with empty_queue():
        began = time.perf_counter()
        enqueue("noop", count)
        return {"tasks/s": count / (time.perf_counter() - began)}


def enqueue_one(count: int) -> Figures:
    """Enqueue one after the other."""
    from load_tests.tasks import noop

    count //= 20
    with empty_queue():
        began = time.perf_counter()
        for number in range(count):
            noop.enqueue(number)
        return {"tasks/s": count / (time.perf_counter() - began)}


def enqueue_async(count: int) -> Figures:
    """Enqueue with ``aenqueue`` one after the other, then from 50 coroutines at a time."""
    figures = {}
    for name, coroutines, tasks in (("one/s", 1, count // 10), ("50/s", 50, count)):
        with empty_queue():
            figures[name] = tasks / asyncio.run(_enqueue_async(coroutines, tasks))
    return figures


def latency(count: int) -> Figures:
    """Enqueue 100 tasks a second for 10 s; measure from the enqueue to the task's first line."""
    from load_tests.tasks import stamp

    with empty_queue():
        worker = Worker(f"--concurrency={CONCURRENCY}")
        worker.wait_until_started()
        for tick in _every(0.01, STEADY_TASKS):
            stamp.enqueue(tick)
        _wait_until_done()
        milliseconds = sorted(1000 * seconds for seconds in worker.stop().latencies)
    if len(milliseconds) != STEADY_TASKS:
        raise RuntimeError(f"{len(milliseconds)} of {STEADY_TASKS} tasks ran.")
    return {
        "p50 ms": statistics.median(milliseconds),
        "p99 ms": milliseconds[990],
        "max ms": milliseconds[-1],
    }


def claim_cost(count: int) -> Figures:
    """Claim and settle 100 tasks over and over, with 1,000 tasks waiting and with a million."""
    figures: Figures = {}
    with empty_queue():
        for size, missing in (("1k", 1000), ("1M", 1_000_000 - 1000)):
            enqueue("noop", missing)
            _tidy_up()
            figures[f"ms with {size}"] = asyncio.run(_median_claim())
    figures["ratio"] = figures["ms with 1M"] / figures["ms with 1k"]
    return figures


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        drain_noop,
        drain_noop_two,
        drain_noop_sync,
        drain_sleep,
        drain_batch,
        enqueue_bulk,
        enqueue_one,
        enqueue_async,
        latency,
        claim_cost,
    )
}


def _drain(name: str, count: int, *options: str) -> Figures:
    with empty_queue():
        enqueue(name, count)
        report = Worker("--burst", f"--concurrency={CONCURRENCY}", *options).finish(DRAIN_TIMEOUT)
        if waiting := left():
            raise RuntimeError(f"{waiting} of {count} tasks were not run.")
    return {"tasks/s": count / report.seconds, "CPU ms/task": 1000 * report.cpu_seconds / count}


async def _enqueue_async(coroutines: int, tasks: int) -> float:
    """Return how many seconds it takes."""
    from load_tests.tasks import noop

    async def enqueue_some() -> None:
        for number in numbers:
            await noop.aenqueue(number)

    numbers = iter(range(tasks))
    began = time.perf_counter()
    await asyncio.gather(*(enqueue_some() for _ in range(coroutines)))
    return time.perf_counter() - began


async def _median_claim(rounds: int = 60) -> float:
    from django_vtasks.brokers.base import Owner, Release

    broker, owner = _broker(), Owner("bench", "default#1")
    await asyncio.to_thread(broker.renew, owner.node, 600.0)
    milliseconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        claims = await broker.claim(owner, "default", 100)
        milliseconds.append(1000 * (time.perf_counter() - began))
        await broker.settle(owner, [Release(claim) for claim in claims])
    await broker.aclose()
    return statistics.median(milliseconds)


def enqueue(name: str, count: int, directory: Path | None = None, **options: Any) -> None:
    """Enqueue calls of a task with numbers, or with files of a directory named by them."""
    from load_tests import tasks

    task = getattr(tasks, name).using(**options)
    for numbers in batched(range(count), 1000):
        backend().enqueue_many((task, (str(directory / f"{n}") if directory else n,), {}) for n in numbers)


def _every(seconds: float, times: int) -> Iterator[float]:
    """Yield the wall-clock time at fixed intervals, however long the body takes."""
    began = time.perf_counter()
    for tick in range(times):
        time.sleep(max(0.0, began + tick * seconds - time.perf_counter()))
        yield time.time()


@contextmanager
def empty_queue() -> Iterator[None]:
    """Empty the store first."""
    from django.db import connection

    if not backend().broker.capabilities.transactional:
        backend().broker._link.command("FLUSHDB")  # noqa: SLF001 - the server is ours
        yield
        return

    with connection.cursor() as cursor:
        truncate = "DELETE FROM" if connection.vendor == "sqlite" else "TRUNCATE"
        for table in ("vtasks_task", "vtasks_lock", "vtasks_failed", "vtasks_node", "vtasks_leader", "vtasks_slot"):
            cursor.execute(f"{truncate} {table}")
        yield
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM vtasks_task")


def _tidy_up() -> None:
    """Do now what the server would do of a mass insert while we measure, on the core that we measure with."""
    from django.db import connection

    statements = {"postgresql": ("VACUUM ANALYZE vtasks_task", "CHECKPOINT"), "sqlite": ("PRAGMA wal_checkpoint",)}
    with connection.cursor() as cursor:
        for statement in statements.get(connection.vendor, ()):
            cursor.execute(statement)


def _wait_until_done() -> None:
    deadline = time.monotonic() + DRAIN_TIMEOUT
    while left():
        if time.monotonic() > deadline:
            raise RuntimeError("The tasks did not end in time.")
        time.sleep(0.05)


def left(queue: str = "default") -> int:
    """Return how many tasks have not ended well."""
    broker = _broker()
    depth = broker.depth(queue)
    return int(depth.waiting + depth.delayed + depth.running + broker.failed_count())


def _broker() -> Any:
    return backend().broker


def backend() -> Any:
    """Return the backend under test."""
    from django.tasks import task_backends

    return task_backends["default"]
