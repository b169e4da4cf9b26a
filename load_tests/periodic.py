"""What the scheduler costs, how late it is, and that each slot is enqueued once whatever becomes of the leader."""

import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from load_tests.scenarios import Figures, backend, empty_queue, left
from load_tests.stage import Worker
from load_tests.tree import session_of, until

ENTRIES = 1000
SECONDS = 20.0
WARM_UP = 3.0
FREEZES = 20
EVERY = 0.2
GAP = 1.5
"""Seconds between two slots of a second that tell of one that was left out, or was as late as the next."""
SHORT_LEASE = 3.0


def schedule(count: int) -> Figures:
    """Enqueue 1,000 entries each second for 20 seconds: how late they are, and the CPU of the scheduler's process."""
    entries = {f"entry-{n}": {"task": "load_tests.tasks.noop", "schedule": 1, "args": [n]} for n in range(ENTRIES)}
    with empty_queue(), _schedule(entries), tempfile.TemporaryDirectory(prefix="vtasks-ticks-") as directory:
        os.environ["LOAD_TEST_TICKS"] = path = f"{directory}/ticks"
        try:
            worker = Worker("--scheduler", own_session=True)
            worker.wait_until_started()
            until(lambda: Path(path).exists(), "the first slots are enqueued")
            [leader] = [process for process in _processes(worker) if "scheduler" in " ".join(process.cmdline())]
            time.sleep(WARM_UP)
            began, cpu = time.time(), sum(leader.cpu_times()[:2])
            time.sleep(SECONDS)
            seconds, cpu = time.time() - began, sum(leader.cpu_times()[:2]) - cpu
            worker.stop()
        finally:
            del os.environ["LOAD_TEST_TICKS"]
        moments = [float(line) for line in Path(path).read_text().split()]
        if any(after - before > GAP for before, after in pairwise(moments)):
            raise RuntimeError("Slots were more than half a second late.")
        late = sorted(1000 * (at % 1) for at in moments if began <= at < began + seconds)
    return {
        "slots/s": len(late) / seconds,
        "p50 ms late": statistics.median(late),
        "p99 ms late": late[int(0.99 * len(late))],
        "% CPU": 100 * cpu / seconds,
    }


def schedule_kill(count: int) -> Figures:
    """Kill -9 all processes of the leader's worker: seconds until the next slot is enqueued, by another."""
    with _ledger() as ledger, _schedule(_ticking(ledger)):
        workers = _two_workers()
        leader = _leader_among(workers)
        killed = time.time()
        for process in _processes(leader):
            process.kill()
        leader.process.wait()
        until(partial(_goes_on, killed), "another goes on", 30.0)
        seconds = time.time() - killed
        return {"s to next slot": seconds, **_verdict(ledger, [worker for worker in workers if worker is not leader])}


def schedule_freeze(count: int) -> Figures:
    """Freeze the leader's worker until another leads, and let it go on, 20 times."""
    os.environ["VTASKS_LEASE"] = str(SHORT_LEASE)
    try:
        with _ledger() as ledger, _schedule(_ticking(ledger)):
            workers = _two_workers()
            for _ in range(FREEZES):
                leader = _leader_among(workers)
                name = _broker().leader("scheduler")
                _signal(leader, signal.SIGSTOP)
                until(partial(_leads_another, name), "another leads", 30.0)
                until(partial(_goes_on, _standing().last), "it goes on")
                _signal(leader, signal.SIGCONT)
            return {"freezes": FREEZES, **_verdict(ledger, workers)}
    finally:
        del os.environ["VTASKS_LEASE"]


SCENARIOS: dict[str, Callable[[int], Figures]] = {
    scenario.__name__: scenario for scenario in (schedule, schedule_kill, schedule_freeze)
}


def _ticking(ledger: Path) -> dict[str, Any]:
    # With "all" no slot is left out: as many tasks as slots, or one was lost or done twice.
    return {"tick": {"task": "load_tests.tasks.sign", "schedule": EVERY, "args": [str(ledger)], "misfire": "all"}}


def _two_workers() -> list[Worker]:
    workers = [Worker("--scheduler", own_session=True) for _ in range(2)]
    for worker in workers:
        worker.wait_until_started()
    until(lambda: _broker().standings() and _standing().last is not None, "the first slot is enqueued")
    return workers


def _leader_among(workers: list[Worker]) -> Worker:
    until(lambda: _broker().leader("scheduler"), "somebody leads", 30.0)
    pid = int(_broker().leader("scheduler").split("-")[-2])
    [leader] = [worker for worker in workers if worker.process.pid == pid]
    return leader


def _verdict(ledger: Path, workers: list[Worker]) -> Figures:
    """End the workers, run what they left, and compare runs with slots."""
    for worker in workers:
        worker.stop()
    standing = _standing()
    last = Worker()  # it gets the tasks of those that were killed when their lease has run out
    last.wait_until_started()
    until(lambda: not left() and not _broker().nodes().keys() - {_node_of(last)}, "all tasks have ended", 60.0)
    last.stop()
    failed = _broker().failed_count()
    slots = round(standing.last / EVERY) - int(standing.since // EVERY)
    # A task that was running when its actor was killed runs again: it is tasks that count.
    tasks = len(set(ledger.read_text().split()))
    return {"slots": slots, "tasks beyond": tasks - slots, "failed": failed}


def _leads_another(than: str) -> bool:
    return _broker().leader("scheduler") not in {None, than}


def _goes_on(after: float) -> bool:
    return bool(_standing().last > after)


def _node_of(worker: Worker) -> str:
    return next((node for node in _broker().nodes() if f"-{worker.process.pid}-" in node), "")


def _standing() -> Any:
    return _broker().standings()["tick"]


def _broker() -> Any:
    return backend().broker


def _processes(worker: Worker) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if session_of(process.pid) == worker.process.pid]


def _signal(worker: Worker, number: signal.Signals) -> None:
    for process in _processes(worker):
        process.send_signal(number)


@contextmanager
def _ledger() -> Iterator[Path]:
    with empty_queue(), tempfile.TemporaryDirectory(prefix="vtasks-ledger-") as directory:
        yield Path(directory) / "ledger"


@contextmanager
def _schedule(entries: dict[str, Any]) -> Iterator[None]:
    os.environ["VTASKS_SCHEDULE"] = json.dumps(entries)
    _broker().register({})
    try:
        yield
    finally:
        del os.environ["VTASKS_SCHEDULE"]
