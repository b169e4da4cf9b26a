"""Disks that are full, and hosts without memory or room for another process."""

import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import DatabaseError, close_old_connections

from django_vtasks.errors import BrokerUnavailable
from load_tests.chaos import cgroups, dooms, needs
from load_tests.chaos.account import Fault
from load_tests.chaos.dooms import RESCUED
from load_tests.chaos.run import Run
from load_tests.chaos.scenario import Bounds, scenario

MB = 1024 * 1024
FORKS = 15.0
"""Processes and threads that a worker may try to start a second, on the average, when there is no room for any."""
REFUSED = "enqueues refused"
PARKED = "parked"
SLOWER = 3 / 4
"""How many of these there may be in the second half of the time, for each in the first."""


@scenario(
    45, bites=(REFUSED,), bounds=Bounds(back=15.0), seconds=12.0, disk="400m",
    environment={"VTASKS_QUEUES": f"default,{PARKED}"},
)  # fmt: skip
def full_disk(run: Run) -> None:
    """Fill the disk that the store is on, then free it: callers are told, nothing is lost, and work goes on."""
    ballast = run.ground.directory / "ballast"
    before = run.ledger.count("error")
    with run.outage("full disk", after=10.0):
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * MB)
        end = time.monotonic() + run.seconds
        while time.monotonic() < end:
            run.pass_time(0.2)
            with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
                file.write(b"\0" * MB)  # what has become free meanwhile
            run.bit(REFUSED, not _is_accepted(run))
        ballast.unlink()
        run.heal_store()
    run.bit(REFUSED, run.ledger.count("error") - before)
    run.broker.clear(PARKED)


def _is_accepted(run: Run) -> bool:
    """Enqueue what needs room, for never: small tasks find some in files that a database has made large before."""
    from load_tests.chaos import tasks

    close_old_connections()  # on which a server has given up
    task: Any = tasks.awork.using(queue_name=PARKED, run_after=datetime.now(UTC) + timedelta(days=1))
    try:
        run.backend.enqueue(task, (run.chance.randbytes(MB // 4).hex(), 0.0), {})
    except (BrokerUnavailable, DatabaseError):
        return False
    return True


@scenario(47, bites=("forks that failed",), bounds=Bounds(), seconds=8.0, needs=(needs.ADMIN, needs.PIDS_GROUP))
def no_process_left(run: Run) -> None:
    """Let no process of the worker's be started any more, and kill its actors: they come back when there is room.

    Until then it tries more and more seldom.
    """
    with cgroups.group("pids", _pids(run)) as group:
        group.limit(1)
        run.kill(*run.actors().values())
        run.pass_time(run.seconds / 2)
        early = group.refused()
        run.pass_time(run.seconds / 2)
        failed = group.refused()
        run.bit("forks that failed", failed)
        run.expect(failed <= FORKS * run.seconds, f"{failed} forks were tried in {run.seconds:g} s")
        late = failed - early
        run.expect(late <= SLOWER * early, f"forks do not slow down: {early} failed in the first half, {late} then")
        run.facts |= {
            "forks a second": round(failed / run.seconds, 1),
            "later": round(2 * late / run.seconds, 1),
        }
        before = run.ended()
        group.limit(None)
        began = time.monotonic()
        run.until(lambda: run.ended() > before, "tasks run again when there is room", 40.0)
        run.recoveries.append(time.monotonic() - began)


def _pids(run: Run) -> list[int]:
    return [process.pid for process in run.workers[0].processes()]


@scenario(8, bites=("processes killed by the kernel",), environment=RESCUED, seconds=8.0,
          needs=(needs.ADMIN, needs.MEMORY_GROUP))  # fmt: skip
def out_of_memory(run: Run) -> None:
    """Let tasks take more memory than the host has: the kernel kills their actors, and they are given up with that."""
    from load_tests.chaos import tasks

    with cgroups.group("memory", _pids(run)) as group:
        group.limit(600 * MB)
        task: Any = tasks.doom
        with _deaths_noted(run):
            for _ in run.beats(2.0, 3.0):
                run.doomed.add(task.enqueue("greedy").id)
            run.until(run.is_doom_done, "the greedy are given up", 40.0)
        run.bit("processes killed by the kernel", group.refused())
        group.limit(None)
    dooms.judge_times(run)
    said = [entry.failure.message for entry in run.broker.failed(100)]
    for words in ("out of memory", "peak memory"):
        lacking = [message for message in said if words not in message]
        run.expect(not lacking, f"no word of {words}: {lacking[:2]}")


@contextlib.contextmanager
def _deaths_noted(run: Run) -> Iterator[None]:
    """Note the death of each actor, at its own time: the kernel may choose others than the greedy, too."""
    over = threading.Event()

    def watch() -> None:
        before, since = run.workers[0].actors().values(), time.monotonic()
        while not over.wait(0.05):
            now, at = run.workers[0].actors().values(), time.monotonic()
            if gone := frozenset(before) - frozenset(now):
                run.faults.append(Fault("death", since, at, gone))
            before, since = now, at

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
