"""The scenarios that are no plain drain: enqueueing, latency, a long queue, starting, memory, idling."""

import statistics
import time

from load_tests.bench import records
from load_tests.bench.bout import PATIENCE, POLL, Bout, costs
from load_tests.bench.scenarios import Drain, Figures, Measurement

ENQUEUE_SECONDS = 1.5
CHECK_SECONDS = 60.0
"""For how long what was enqueued may run: of the slowest contenders, a part of it."""
WAYS = {"one/s": "one", "one async/s": "one_async", "50 at a time/s": "together", "bulk/s": "bulk"}
"""The ways to enqueue, by their figures: what the producer is asked for."""
STORM_KEYS = 500
WARM_UP = 200
RATE = 100
SETTLE = 5.0
QUIET = 2.0
"""Seconds after which somebody who has worked has said so, and no longer works."""
IDLE = 20.0
FILL_SECONDS = 30.0
AGAIN_WITHIN = 5.0
ACTORS = 8


def enqueue(bout: Bout, count: int) -> Measurement:
    """Enqueue one after the other, from 50 coroutines, and in bulks of 1,000; then let them run."""
    figures: Figures = {}
    first, lacks = 0, bout.contender.lacks
    for name, do in WAYS.items():
        if f"enqueue {name}" in lacks:
            continue
        seconds = max(1.0, ENQUEUE_SECONDS * bout.share)
        answer = bout.producer.ask(do, task=bout.contender.quickest, first=first, seconds=seconds)
        figures[name] = answer["rate"]
        first += answer["count"]
    bout.start()
    bout.wait_for(first, within=CHECK_SECONDS * bout.share)
    runs, exactness = bout.end(range(first))
    if len(runs) < first and not bout.has_stalled:
        exactness = exactness._replace(missing=None)  # so many could not all have their turn
    return Measurement(figures, len(runs), exactness)


def storm(bout: Bout, count: int) -> Measurement:
    """Enqueue unique tasks of few keys from 50 coroutines while none may run; each key then runs once."""
    answer = bout.producer.ask("storm", task="noop", keys=STORM_KEYS, seconds=ENQUEUE_SECONDS * bout.share)
    bout.start()
    bout.wait_for(STORM_KEYS)
    _, exactness = bout.end(range(STORM_KEYS))
    return Measurement({"calls/s": answer["count"] / answer["seconds"]}, answer["count"], exactness)


def latency(bout: Bout, count: int) -> Measurement:
    """Enqueue 100 tasks a second; measure from before the call to the task's first line."""
    task = bout.contender.quickest
    workers = bout.start()
    _warm_up(bout, task, 20)
    time.sleep(1.0)
    before = bout.sample()
    sent = bout.producer.ask("steady", task=task, first=WARM_UP, rate=RATE, number=count)["times"]
    bout.wait_for(20 + count)
    after = bout.sample()
    connections = bout.count_connections()
    pss, processes = workers.pss()
    runs, exactness = bout.end([*range(20), *range(WARM_UP, WARM_UP + count)])
    waits = records.waits(runs, WARM_UP, sent)
    percentiles = statistics.quantiles(waits, n=100, method="inclusive")
    figures: Figures = {
        "p50 ms": percentiles[49],
        "p99 ms": percentiles[98],
        "max ms": waits[-1],
        "% CPU": 100 * (after.worker_cpu - before.worker_cpu) / (count / RATE),
    }
    return Measurement(
        figures, count, exactness, costs(before, after), pss=pss, processes=processes, connections=connections
    )


def backlog(size: int, bout: Bout, count: int) -> Measurement:
    """Run some tasks of a very long queue, then as many of a queue that has no more."""
    task = bout.contender.quickest
    waiting = bout.fill(task, size, seconds=FILL_SECONDS * bout.share)
    count = min(count, waiting)
    bout.start()
    bout.wait_for(count, strict=True)
    assert bout.workers is not None
    bout.workers.kill()
    runs = records.read(bout.records)
    doubled = len(runs) - len({run.number for run in runs})
    slow = records.rate(runs[:count])
    bout.begin_anew()
    plain = Drain()(bout, count)
    rate = plain.figures["tasks/s"]
    assert rate is not None
    exactness = records.Exactness(plain.exactness.missing, plain.exactness.doubled + doubled)
    figures: Figures = {"waiting": waiting, "tasks/s": slow, "tasks/s without": rate, "cost ratio": rate / slow}
    return Measurement(figures, count, exactness, plain.costs)


def memory(bout: Bout, count: int) -> Measurement:
    """Add up the PSS of eight processes that have worked, with their parents."""
    bout.fill("sleep", WARM_UP)
    workers = bout.start(ACTORS, concurrency=20)
    bout.wait_for(WARM_UP)
    time.sleep(QUIET)
    connections = bout.count_connections()
    pss, processes = workers.pss()
    _, exactness = bout.end(range(WARM_UP))
    figures: Figures = {"MB PSS": pss}
    if connections is not None:
        figures["connections/process"] = connections / ACTORS
    return Measurement(figures, WARM_UP, exactness, pss=pss, processes=processes, connections=connections)


def idle(bout: Bout, count: int) -> Measurement:
    """Measure the CPU of a worker that has worked and has nothing to do."""
    task = bout.contender.quickest
    workers = bout.start()
    _warm_up(bout, task, WARM_UP)
    time.sleep(SETTLE)
    seconds = IDLE * bout.share
    before, began = bout.sample(), workers.run_seconds()
    time.sleep(seconds)
    after, ended = bout.sample(), workers.run_seconds()
    connections = bout.count_connections()
    pss, processes = workers.pss()
    _, exactness = bout.end(range(WARM_UP))
    figures: Figures = {"% CPU": 100 * (ended - began) / seconds}
    if after.server_cpu is not None and before.server_cpu is not None:
        figures["% CPU of server"] = 100 * (after.server_cpu - before.server_cpu) / seconds
    cost = costs(before, after)
    return Measurement(figures, WARM_UP, exactness, cost, pss=pss, processes=processes, connections=connections)


def start(bout: Bout, count: int) -> Measurement:
    """Measure from the worker's command to the first line of a task that waits."""
    bout.fill(bout.contender.quickest, 1)
    workers = bout.start()
    bout.wait_for(1, strict=True)
    runs, exactness = bout.end([0])
    return Measurement({"s": runs[0].at - workers.began}, 1, exactness)


def restart(bout: Bout, count: int) -> Measurement:
    """Kill -9 the process that runs a task, one of two; measure until the task begins again, if it ever does."""
    bout.start(2)
    _warm_up(bout, "sleep", WARM_UP)
    time.sleep(QUIET)
    bout.fill("hold", 1, first=WARM_UP)
    bout.wait_for(WARM_UP + 1, strict=True)
    killed = bout.kill_worker_of(WARM_UP)
    deadline = time.monotonic() + AGAIN_WITHIN
    while records.written(bout.records) < WARM_UP + 2 and time.monotonic() < deadline:
        time.sleep(POLL)
    assert bout.workers is not None
    bout.workers.kill()
    runs = records.read(bout.records)
    again = [run.at for run in runs if run.number == WARM_UP][1:]
    exactness = records.exactness([run for run in runs if run.number < WARM_UP], range(WARM_UP))
    exactness = exactness._replace(doubled=0)  # who is killed may have had no time to settle
    return Measurement({"ms to run again": 1000 * (again[0] - killed) if again else None}, WARM_UP + 1, exactness)


def _warm_up(bout: Bout, task: str, count: int) -> None:
    bout.fill(task, count)
    if not bout.wait_for(count):
        raise RuntimeError(f"Not all of {count} tasks ran within {PATIENCE:g} s.")
