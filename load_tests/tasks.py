"""What the workers under test run."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from django.tasks import TaskContext

from django_vtasks import task
from load_tests import named  # noqa: F401 - a worker knows what its tasks modules import

if path := os.environ.get("LOAD_TEST_STAMPS"):
    from load_tests.apps import stamp as _stamp

    _stamp(path, "preloaded")  # the tasks are the last of what actors share

latencies: list[float] = []
"""Seconds from enqueue to start, for those tasks of this worker that measured it."""


@task
async def noop(number: int) -> None:
    """Do nothing, on the loop."""


@task
async def noop_batch(members: list[dict[str, Any]]) -> None:
    """Do nothing, once for many."""


@task
def noop_sync(number: int) -> None:
    """Do nothing, on a thread."""


@task
async def sleep_10_ms(number: int) -> None:
    """Wait, as for an answer from the network."""
    await asyncio.sleep(0.01)


@task
async def stamp(sent: float) -> None:
    """Measure how long it took from the enqueue to here."""
    latencies.append(time.time() - sent)


@task
def mark(path: str) -> None:
    """Leave one byte in a ledger for each run."""
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(descriptor, b".")
    os.close(descriptor)


@task(takes_context=True)
def sign(context: TaskContext[..., Any], path: str) -> None:
    """Leave the id of this task in a ledger."""
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(descriptor, f"{context.task_result.id}\n".encode())
    os.close(descriptor)


@task
async def hold(path: str) -> None:
    """Say where and when it runs, and wait until it may end."""
    with Path(path).open("a", buffering=1) as file:  # noqa: ASYNC230 - a line in a small file
        file.write(f"{os.getpid()} {time.time()}\n")
    while not Path(path).with_suffix(".open").exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)
