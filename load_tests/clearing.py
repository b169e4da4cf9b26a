"""What it costs to clear a long queue, and what that costs everybody else."""

import statistics
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from functools import partial

from load_tests.scenarios import Figures, Scenario, backend, empty_queue, enqueue

MILLION = 1_000_000
KINDS = 10
"""One in so many tasks is unique, and one delayed."""
AN_HOUR = 3600
EVERY = 0.005
"""Seconds between two calls of the other client, which shall wait and not compete."""


def clear_million(count: int) -> Figures:
    """Clear a million tasks with the command, while another client enqueues and looks, one after the other."""
    with empty_queue():
        began = time.perf_counter()
        _command().wait()
        start_up = time.perf_counter() - began
        enqueue("noop", MILLION - 2 * MILLION // KINDS)
        enqueue("noop", MILLION // KINDS, run_after=timedelta(seconds=AN_HOUR))
        enqueue("noop", MILLION // KINDS, unique=True)
        before = _milliseconds(200)
        began = time.perf_counter()
        clearing = _command()
        waits = []
        while clearing.poll() is None:
            waits += _milliseconds(10)
        seconds = time.perf_counter() - began
        cleared, _ = clearing.communicate()
    if cleared.split()[:2] != ["Deleted", str(MILLION)]:
        raise RuntimeError(f"Not all tasks were cleared: {cleared}")
    return {
        "s": seconds,
        "of which start-up": start_up,
        "others' max ms": max(waits),
        "others' p99 ms": statistics.quantiles(waits, n=100)[-1],
        "max ms before": max(before),
    }


def _command() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "django", "clear_queue", "--force"], stdout=subprocess.PIPE, text=True
    )


def _milliseconds(times: int) -> list[float]:
    """Do what other clients do, and return how long each call took."""
    from django_vtasks.envelope import Envelope

    broker, milliseconds = backend().broker, []
    for _ in range(times):
        time.sleep(EVERY)
        task = Envelope(id=uuid.uuid4().hex, task="other", queue="other", args=[], kwargs={}, enqueued_at=time.time())
        for call in (partial(broker.push, [task]), broker.failed_count):
            began = time.perf_counter()
            call()
            milliseconds.append(1000 * (time.perf_counter() - began))
    return milliseconds


SCENARIOS: dict[str, Scenario] = {"clear_million": clear_million}
