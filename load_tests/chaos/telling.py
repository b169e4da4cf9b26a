"""Those who watch a worker: a scraper while actors die, a reader of the log who has stopped."""

import fcntl
import http.client
import os
import struct
import termios
from pathlib import Path

from load_tests.chaos.run import Run
from load_tests.chaos.scenario import KILLED, scenario
from tests import servers
from tests.integration.scrapes import Scrape, Scraper
from tests.integration.workers import FULL_DISK, PIPE, TO_FULL_DISK, UNREAD

FULL = PIPE - 512
"""Bytes in a pipe that holds not even one of the longer lines of a log more."""


@scenario(72, bites=(KILLED, "scrapes"), workers=0, rate=0.0)
def scrape_while_killing(run: Run) -> None:
    """Kill actors while metrics are scraped: no counter goes back, no dead actor has a gauge, the port stays."""
    port = servers.free_port()
    worker = run.worker(*run.scenario.options, "--metrics-port", str(port))
    run.begin_feeding()
    scraper = Scraper(port)
    scraper.until(lambda _: True, "a page")
    for number, _ in enumerate(run.beats(0.1, 0.2)):
        run.bit("scrapes", _scrape(run, scraper) is not None)
        if number % 5 == 0 and (at_work := [pid for pid in run.actors().values() if run.ledger.running(pid)]):
            run.kill(run.chance.choice(at_work))
    run.expect(not scraper.went_back, f"counters went back: {scraper.went_back[:3]}")
    run.pass_time(2.0)
    if (page := _scrape(run, scraper)) is not None:
        up = page.labels("vtasks_actor_up", "actor")
        run.expect(
            up <= {*worker.actors(), "scheduler"}, f"actors on the page {up}, in the tree {set(worker.actors())}"
        )


@scenario(73, bites=("bytes that nobody read",), workers=0, rate=0.0, seconds=10.0)
def blocked_log(run: Run) -> None:
    """Let nobody read what the worker writes: tasks run, and it ends when it is told to."""
    run.start(command=("-c", UNREAD))
    run.begin_feeding()
    for _ in run.beats(0.5, 1.0):
        run.kill(run.chance.choice(list(run.actors().values())))  # which is something to write about
    before = run.ended()
    run.until(lambda: run.ended() > before + run.usual, "tasks run although the log is blocked")
    unread = _unread(run.workers[0].process.pid)
    run.bit("bytes that nobody read", unread if unread >= FULL else 0)


@scenario(45, bites=("deaths that no disk took in",), workers=0, rate=0.0, seconds=8.0)
def full_log(run: Run) -> None:
    """Let the disk be full that the worker's log is on: tasks run, and it ends with 0 when it is told to."""
    worker = run.start(command=("-c", TO_FULL_DISK), PYTHONUNBUFFERED="")
    run.begin_feeding()
    for _ in run.beats(0.5, 1.0):
        for pid in [*run.actors().values()][:1]:  # if there is any
            pids = worker.process.pid, pid
            run.bit("deaths that no disk took in", all(map(_writes_to_full_disk, pids)))
            run.kill(pid)  # which is something to write about
    before = run.ended()
    run.until(lambda: run.ended() > before + run.usual, "tasks run although the log's disk is full")


def _scrape(run: Run, scraper: Scraper) -> Scrape | None:
    """Return the page; that there is none is a problem, whichever actors die."""
    try:
        return scraper.get()
    except (OSError, http.client.HTTPException) as error:
        run.problems.append(f"a scrape failed: {error!r}")
        return None


def _writes_to_full_disk(pid: int) -> bool:
    """Tell whether all that a process writes as its output fails for want of room."""
    return {Path(f"/proc/{pid}/fd/{descriptor}").readlink() for descriptor in (1, 2)} == {Path(FULL_DISK)}


def _unread(pid: int) -> int:
    """Return how many bytes wait in the pipe that is a process's standard output."""
    descriptor = os.open(f"/proc/{pid}/fd/1", os.O_WRONLY | os.O_NONBLOCK)
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))
    finally:
        os.close(descriptor)
    return int(count)
