"""What runs while faults happen: each start and each end is a line in the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django_vtasks import task
from load_tests.chaos.ledger import VARIABLE, Pen
from tests.workapp.tasks import WAYS_TO_DIE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.tasks import TaskContext

pen = Pen(Path(os.environ.get(VARIABLE, ".")))


@contextlib.contextmanager
def written(key: str, task_id: str, attempt: int) -> Iterator[None]:
    """Note the start of a run and its end, or that it was cut off."""
    pen.write("start", key, task_id, str(attempt))
    try:
        yield
    except BaseException:
        pen.write("cut", key, task_id, str(attempt))
        raise
    pen.write("end", key, task_id, str(attempt))


@task(takes_context=True)
def work(context: TaskContext[..., Any], key: str, seconds: float, ballast: str = "") -> None:
    """Take some time, on a thread."""
    with written(key, context.task_result.id, context.attempt):
        time.sleep(seconds)


@task(takes_context=True)
async def awork(context: TaskContext[..., Any], key: str, seconds: float, ballast: str = "") -> None:
    """Take some time, on the loop."""
    with written(key, context.task_result.id, context.attempt):
        await asyncio.sleep(seconds)


@task(takes_context=True)
def tick(context: TaskContext[..., Any], entry: str) -> None:
    """Be what a schedule enqueues: each slot's task is a key of its own."""
    key = f"{entry} {context.task_result.id}"
    pen.write("try", key)
    with written(key, context.task_result.id, context.attempt):
        pass


@task(takes_context=True)
def doom(context: TaskContext[..., Any], how: str) -> None:
    """Take the actor along, or hold it up for good."""
    pen.write("doom", "", context.task_result.id, how)
    (WAYS_TO_DIE | WAYS_TO_HANG)[how]()


@task(takes_context=True)
async def adoom(context: TaskContext[..., Any], how: str) -> None:
    """Do what doom() does, on the loop."""
    pen.write("doom", "", context.task_result.id, how)
    (WAYS_TO_DIE | WAYS_TO_HANG)[how]()


def _spin() -> None:
    while True:
        pass


WAYS_TO_HANG: dict[str, Callable[[], object]] = {
    "blocked": lambda: time.sleep(600),
    "spinning": _spin,
    "GIL held": lambda: re.match(r"(a+)+$", "a" * 64 + "b"),
    "greedy": lambda: [bytearray(b"x" * 10_000_000) for _ in range(100)],
}
