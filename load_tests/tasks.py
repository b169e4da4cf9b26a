"""What the workers under test run."""

import asyncio
import time

from django_vtasks import task

latencies: list[float] = []
"""Seconds from enqueue to start, for those tasks of this worker that measured it."""


@task
async def noop(number: int) -> None:
    """Do nothing, on the loop."""


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
