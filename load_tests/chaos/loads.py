"""Load itself as a fault: one queue that floods, tasks due at once, queues that are deep."""

import statistics
import time
from datetime import UTC, datetime, timedelta
from itertools import batched
from typing import Any

from load_tests.chaos import neighbours, queues
from load_tests.chaos.run import Run
from load_tests.chaos.scenario import Bounds, scenario

FLOOD = 200_000
HERD = 10_000
DEEP = 100_000
AS_FAST = 1.5
"""How many times as long a claim may take from a deep queue; the benchmark claim_cost holds 1.3, with a million."""
ROUNDS = 60
LEAD = 20.0
"""Seconds within which a herd must be enqueued before it is due."""
ONE = ("--processes", "1", "--concurrency", "8")
NOISY = "tasks that still waited in the noisy queue"


@scenario(68, 71, bites=(NOISY,), bounds=Bounds(quiet=200.0), seconds=15.0, rate=50.0,
          options=ONE, environment={"VTASKS_QUEUES": "default,noisy"})  # fmt: skip
def noisy_neighbour(run: Run) -> None:
    """Flood one queue with 200,000 tasks: another keeps its rate, and its tasks hardly wait longer."""
    run.pass_time(run.seconds / 3)
    began = time.monotonic()
    _enqueue(run, FLOOD, queue_name="noisy")
    run.facts["flood s"] = round(time.monotonic() - began, 1)
    run.pass_time(run.seconds)
    run.bit(NOISY, run.broker.depth("noisy").waiting)
    until = time.monotonic()
    neighbours.judge_rate(run, "default", began, until)
    neighbours.judge_waits(run, "default", began, until)
    run.broker.clear("noisy")


@scenario(70, bites=("tasks due at once",), bounds=Bounds(quiet=90.0), queues=("default", "other"), options=ONE)
def herd(run: Run) -> None:
    """Let 10,000 delayed tasks of a queue be due at once: each runs once, and another queue hardly notices.

    Of their own queue the tasks run in the order in which they are due, so that what comes later waits for all of them.
    """
    due = time.monotonic() + LEAD
    _enqueue(run, HERD, run_after=datetime.now(UTC) + timedelta(seconds=LEAD), note=True)
    run.pass_time(max(0.0, due - time.monotonic() - 0.5))
    delayed = run.broker.depth("default").delayed
    run.bit("tasks due at once", delayed if time.monotonic() < due else 0)
    run.pass_time(max(0.0, due - time.monotonic()))
    run.until(lambda: _ended(run, "bulk") >= HERD, "the herd has run", 90.0)
    until = time.monotonic()
    run.facts["herd s"] = round(until - due, 1)
    run.pass_time(2.0)
    neighbours.judge_rate(run, "other", due, until)
    neighbours.judge_waits(run, "other", due, until)
    own = queues.waits(run.ledger.events(), "default", due, until)
    run.facts["median wait in its own queue"] = round(statistics.median(own), 3)


@scenario(71, bites=("tasks in the deep queue",), rate=0.0, workers=0, bounds=Bounds(quiet=200.0))
def deep_queue(run: Run) -> None:
    """Claim from a queue of 1,000 tasks and from one of 100,000: the second takes hardly longer."""
    import asyncio

    _enqueue(run, 1000)
    shallow = asyncio.run(_quick_claim(run))
    _enqueue(run, DEEP)
    deep = asyncio.run(_quick_claim(run))
    waiting = run.broker.depth("default").waiting
    run.bit("tasks in the deep queue", waiting if waiting >= DEEP else 0)
    run.facts |= {"ms a claim": round(1000 * shallow, 2), "ms a deep claim": round(1000 * deep, 2)}
    run.expect(
        deep < shallow * AS_FAST, f"a claim takes {1000 * deep:.2f} ms in a deep queue, {1000 * shallow:.2f} before"
    )
    run.broker.clear("default")


def _ended(run: Run, beginning: str) -> int:
    return sum(event.kind == "end" and event.key.startswith(beginning) for event in run.ledger.events())


async def _quick_claim(run: Run) -> float:
    """Return the seconds within which a quarter of claims are done: what else the machine does slows fewer of those."""
    from django_vtasks.brokers.base import Owner, Release

    owner, took = Owner("measure", "default#1"), []
    run.broker.renew(owner.node, 600.0)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        claims = await run.broker.claim(owner, "default", 20)
        took.append(time.perf_counter() - began)
        await run.broker.settle(owner, [Release(claim) for claim in claims])
    await run.broker.aclose()
    run.broker.leave(owner.node)
    return statistics.quantiles(took, n=4)[0]


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
