"""What metrics cost: a scrape, and the throughput of a worker that counts for somebody."""

import os
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import batched
from pathlib import Path

from django_vtasks.publishing import Call
from load_tests.scenarios import CONCURRENCY, DRAIN_TIMEOUT, Figures, backend, empty_queue, enqueue, left
from load_tests.stage import Worker, WorkerReport
from load_tests.tree import until
from tests.servers import free_port

ACTORS = 8
NAMES = 50
SCRAPES = 50
EACH = 40
ROUNDS = 5
HEADER = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def scrape(count: int) -> Figures:
    """Scrape a worker of eight actors that has run tasks of 50 names, after each time a few of them."""
    with empty_queue():
        port = free_port()
        worker = Worker(f"--processes={ACTORS}", f"--metrics-port={port}", own_session=True)
        worker.wait_until_started()
        _enqueue_many_names(EACH)
        until(lambda: not left(), "all tasks have ended", DRAIN_TIMEOUT)
        until(lambda: _page(port).count(b"vtasks_task_duration_seconds_count") == NAMES, "all names are on the page")
        milliseconds, page = [], b""
        for _ in range(SCRAPES):
            _enqueue_many_names(1)  # what has changed since the last scrape is no part of a cache
            until(lambda: not left(), "all tasks have ended", DRAIN_TIMEOUT)
            began = time.perf_counter()
            page = _page(port)
            milliseconds.append(1000 * (time.perf_counter() - began))
        worker.stop()
    return {"median ms": statistics.median(milliseconds), "max ms": max(milliseconds), "kB": len(page) / 1000}


def metrics_cost(count: int) -> Figures:
    """Drain no-op tasks without prometheus_client, with it, and with a port that is scraped each second, in turns.

    The CPU of a task varies less from run to run than the rate does.
    """
    reports: dict[str, list[WorkerReport]] = {"without": [], "with": [], "scraped": []}
    with tempfile.TemporaryDirectory(prefix="vtasks-blocked-") as directory:
        Path(directory, "sitecustomize.py").write_text("import sys\nsys.modules['prometheus_client'] = None\n")
        for turn in range(ROUNDS):
            kinds = list(reports)
            for kind in kinds[turn % len(kinds) :] + kinds[: turn % len(kinds)]:
                with _blocked(directory if kind == "without" else None):
                    reports[kind].append(_drain(count, free_port() if kind == "scraped" else None))
    figures = {f"{kind}/s": count / statistics.median(run.seconds for run in runs) for kind, runs in reports.items()}
    for kind in ("with", "scraped"):
        pairs = list(zip(reports[kind], reports["without"], strict=True))
        figures[f"{kind} rate"] = statistics.median(base.seconds / run.seconds for run, base in pairs)
        figures[f"{kind} CPU"] = statistics.median(run.cpu_seconds / base.cpu_seconds for run, base in pairs)
    return figures


SCENARIOS: dict[str, Callable[[int], Figures]] = {scenario.__name__: scenario for scenario in (scrape, metrics_cost)}


def _drain(count: int, port: int | None) -> WorkerReport:
    with empty_queue():
        enqueue("noop", count)
        options = [] if port is None else [f"--metrics-port={port}"]
        worker = Worker("--burst", f"--concurrency={CONCURRENCY}", *options)
        if port is not None:
            worker.wait_until_started()
            while worker.process.poll() is None:
                _try_page(port)
                time.sleep(1.0)
        report = worker.finish(DRAIN_TIMEOUT)
        if waiting := left():
            raise RuntimeError(f"{waiting} of {count} tasks were not run.")
    return report


def _enqueue_many_names(each: int) -> None:
    from load_tests import named

    calls: list[Call] = [(task, (), {}) for task in named.TASKS for _ in range(each)]
    for some in batched(calls, 1000):
        backend().enqueue_many(some)


def _page(port: int) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": HEADER})
    with urllib.request.urlopen(request, timeout=10.0) as answer:  # noqa: S310 - to a worker of ours
        body: bytes = answer.read()
        return body


def _try_page(port: int) -> None:
    try:
        _page(port)
    except OSError as error:
        print(f"no page: {error}", file=sys.stderr)


@contextmanager
def _blocked(directory: str | None) -> Iterator[None]:
    """Let the workers not find prometheus_client."""
    before = os.environ.get("PYTHONPATH")
    if directory is not None:
        os.environ["PYTHONPATH"] = directory if before is None else f"{directory}{os.pathsep}{before}"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = before
