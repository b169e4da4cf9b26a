"""Load itself as a fault: one queue that floods, tasks due at once, queues that are deep."""

import statistics
import time
from datetime import UTC, datetime, timedelta
from itertools import batched
from typing import Any

from load_tests.chaos.run import Run
from load_tests.chaos.scenario import Bounds, scenario

FLOOD = 50_000
HERD = 5_000
DEEP = 100_000
AS_FAST = 3.0
"""How many times as long others may wait, at the 99th percentile, beside a flood; and a claim beside a deep queue."""
SLACK = 0.5
ONE = ("--processes", "1", "--concurrency", "8")


@scenario(68, 71, bites=("tasks of the noisy queue",), bounds=Bounds(quiet=200.0), seconds=12.0, rate=50.0,
          options=ONE, environment={"VTASKS_QUEUES": "default,noisy"})  # fmt: skip
def noisy_neighbour(run: Run) -> None:
    """Flood one queue with 50,000 tasks: those of another are not held up, and no claim takes longer."""
    began = time.monotonic()
    _enqueue(run, FLOOD, queue_name="noisy")
    run.bit("tasks of the noisy queue", FLOOD)
    flooded = time.monotonic()
    run.pass_time(run.seconds)
    before, during = run.waits(0.0, began), run.waits(flooded, time.monotonic() - 1.0)
    quiet, loud = (waits[int(len(waits) * 0.9)] for waits in (before, during))
    run.facts |= {"p90 wait before": round(quiet, 3), "p90 wait meanwhile": round(loud, 3)}
    run.expect(loud < quiet * AS_FAST + SLACK, f"other tasks wait {loud:.2f} s beside a flood, {quiet:.2f} s before")
    run.expect(run.broker.depth("noisy").waiting, "VACUOUS: the flood was over before the others were measured")
    run.broker.clear("noisy")


@scenario(70, bites=("tasks due at once",), bounds=Bounds(quiet=60.0), seconds=10.0)
def herd(run: Run) -> None:
    """Let 5,000 delayed tasks be due in the same moment: each runs once, and others do not wait for all of them."""
    due = datetime.now(UTC) + timedelta(seconds=8.0)
    _enqueue(run, HERD, run_after=due, note=True)
    run.expect(datetime.now(UTC) < due, "VACUOUS: they were due before all were enqueued")
    run.bit("tasks due at once", HERD)
    run.pass_time(max(0.0, (due - datetime.now(UTC)).total_seconds()))
    began = time.monotonic()
    run.until(lambda: run.ledger.count("end") > HERD, "the herd has run", 60.0)
    run.facts["herd s"] = round(time.monotonic() - began, 1)
    run.pass_time(1.0)
    waits = run.waits(began - 1.0, time.monotonic())
    run.facts["median wait beside it"] = round(statistics.median(waits), 3)


@scenario(71, bites=("tasks in the deep queue",), rate=0.0, workers=0, bounds=Bounds(quiet=200.0))
def deep_queue(run: Run) -> None:
    """Claim from a queue of 1,000 tasks and from one of 100,000: the second takes no longer."""
    import asyncio

    _enqueue(run, 1000)
    shallow = asyncio.run(_median_claim(run))
    _enqueue(run, DEEP)
    deep = asyncio.run(_median_claim(run))
    run.bit("tasks in the deep queue", DEEP)
    run.facts |= {"ms a claim": round(1000 * shallow, 2), "ms a deep claim": round(1000 * deep, 2)}
    run.expect(
        deep < shallow * AS_FAST, f"a claim takes {1000 * deep:.2f} ms in a deep queue, {1000 * shallow:.2f} before"
    )
    run.broker.clear("default")


async def _median_claim(run: Run) -> float:
    from django_vtasks.brokers.base import Owner, Release

    owner, took = Owner("measure", "default#1"), []
    run.broker.renew(owner.node, 600.0)
    for _ in range(40):
        began = time.perf_counter()
        claims = await run.broker.claim(owner, "default", 20)
        took.append(time.perf_counter() - began)
        await run.broker.settle(owner, [Release(claim) for claim in claims])
    await run.broker.aclose()
    run.broker.leave(owner.node)
    return statistics.median(took)


def _enqueue(run: Run, count: int, *, note: bool = False, **options: Any) -> None:
    """Enqueue in bulks, in this process; ``note`` says that each is to be accounted for, and not only known."""
    from load_tests.chaos import tasks

    task: Any = tasks.awork.using(**options)
    for numbers in batched(range(count), 1000):
        keys = [f"bulk{number}" for number in numbers]
        for key in keys:
            tasks.pen.write("try", key)
        results = run.backend.enqueue_many([(task, (key, 0.0), {}) for key in keys])
        for key, result in zip(keys, results, strict=True) if note else ():
            tasks.pen.write("accept", key, result.id)
