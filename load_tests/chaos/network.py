"""Lines between workers and their store that are slow, flap, or lie dead."""

import contextlib
import re
import socket
import time
from collections.abc import Callable
from functools import partial

from load_tests.chaos.account import Fault
from load_tests.chaos.ground import Served
from load_tests.chaos.grounds import SERVED
from load_tests.chaos.run import LEASE, Run
from load_tests.chaos.scenario import Bounds, scenario
from tests.integration.proxies import Proxy

DIED = "live connections that died"
CUT = "live connections cut"
SICK = "health said no"
LINES = {"stores": SERVED, "by_line": True}
QUEUED = "bytes that queued for the thin line"
THIN = 1000.0
DOWN = 0.4
DEAD = 2.5 * LEASE
"""Seconds after which health must have noticed."""
BACK = 20.0
"""Seconds after which a worker has found out about each dead connection."""
LATE = 10.0
"""Seconds within which an end that was told once more is known to be refused."""
MESSAGES = 25
"""That one outage may cost a worker of two actors at most, whatever is in them: a log is not flooded."""


@scenario(31, bites=(DIED, SICK), bounds=Bounds(back=BACK), seconds=1.0, **LINES)
def dead_line(run: Run) -> None:
    """Let a line swallow all packets for two and a half leases, then let it live."""
    _die(run, _line(run).go_dead)


@scenario(31, bites=(DIED, SICK), bounds=Bounds(back=BACK), seconds=1.0, **LINES)
def deaf_line(run: Run) -> None:
    """Let the server hear everything, and swallow its answers alone."""
    _die(run, partial(_line(run).go_dead, is_heard=True))


@scenario(32, bites=(DIED, SICK), bounds=Bounds(back=BACK), seconds=1.0, **LINES)
def dead_line_and_restart(run: Run) -> None:
    """Restart the server behind a dead line, so that nobody hears of it, then let the line live."""
    assert isinstance(run.ground, Served)

    def die() -> int:
        died = _line(run).go_dead()
        assert isinstance(run.ground, Served)
        run.ground.end()
        run.ground.start()
        return died

    _die(run, die, undoes=True)


@scenario(36, bites=(CUT,), bounds=Bounds(back=5.0), seconds=60.0, **LINES)
def flapping_line(run: Run) -> None:
    """Cut all connections every two seconds for a minute, and refuse new ones for a moment each time."""
    line, cuts, said = _line(run), 0, _messages(run)
    for _ in run.beats(1.4, 1.8):
        with run.outage("flap", after=2.0):
            line.is_open = False
            run.bit(CUT, line.cut())
            cuts += 1
            run.pass_time(DOWN)
            line.is_open = True
    run.facts["messages per cut"] = round((_messages(run) - said) / max(cuts, 1), 1)
    run.expect(run.facts["messages per cut"] <= MESSAGES, "the log is flooded")


@scenario(35, bites=("slow answers",), bounds=Bounds(quiet=60.0), seconds=4 * LEASE, rate=40.0, **LINES)
def slow_line(run: Run) -> None:
    """Add 50 ms, then half a second to each way through the line, for two leases each."""
    line = _line(run)
    for latency in (0.05, 0.5):
        line.latency = latency
        end = time.monotonic() + run.seconds / 2
        while time.monotonic() < end:
            run.bit("slow answers", _answered_within(line) >= latency)  # MariaDB speaks first: one way only
            run.pass_time(0.5)
    line.latency = 0.0
    run.expect(not run.said("had run out"), "a lease was lost although the line was only slow")
    run.expect(not run.said("gave no sign of life"), "an actor was taken for dead although the line was only slow")


@scenario(35, bites=(QUEUED,), bounds=Bounds(quiet=60.0), seconds=20.0, rate=1.0, **LINES)
def thin_line(run: Run) -> None:
    """Let the line carry 1 kB a second each way, of all connections together."""
    line = _line(run)
    line.rate, began = THIN, time.monotonic()
    run.pass_time(run.seconds)
    line.rate = None
    # Nothing may run again for it, but the answer to a settlement may take longer than anybody waits.
    run.faults.append(Fault("thin line", began, time.monotonic() + LATE, frozenset(), mutes=True))
    run.bit(QUEUED, line.there.queued + line.back.queued)
    busiest = max(line.there.carried, line.back.carried) / run.seconds
    run.facts["bytes a second"] = round(busiest)
    # With nobody who could take over, a lease that is not renewed is lost to nobody.
    run.facts["renewals that failed"] = run.said("annot renew the lease")
    run.expect(busiest <= 1.1 * THIN, f"the line carried {busiest:.0f} bytes a second")
    run.expect(not run.said("had run out"), "a lease was lost although the line was only thin")
    run.expect(not run.said("gave no sign of life"), "an actor was taken for dead although the line was only thin")


def _messages(run: Run) -> int:
    """Return how many messages the first worker has logged; a traceback is part of one."""
    return len(re.findall(r"^\d{4}-\d\d-\d\d ", run.workers[0].log, re.MULTILINE))


def _die(run: Run, die: Callable[[], int], *, undoes: bool = False) -> None:
    """Let connections die, wait until health says so, and revive the line."""
    line, [page] = _line(run), run.pages.values()
    with run.outage("dead line", undoes=undoes):
        began = time.monotonic()
        run.bit(DIED, die())
        run.bit(SICK, run.until(lambda: page.status("/health") == 503, "health says no", DEAD + 5.0))  # noqa: PLR2004
        run.facts["health said no after"] = round(time.monotonic() - began, 1)
        run.pass_time(max(0.0, began + DEAD - time.monotonic()))
        line.revive()
    run.until(lambda: page.status("/health") == 200, "health says yes again", BACK + 2 * LEASE)  # noqa: PLR2004


def _line(run: Run) -> Proxy:
    assert run.line is not None
    return run.line


def _answered_within(line: Proxy) -> float:
    """Return how long it takes to connect to the server and to be answered, if only by the end of the connection."""
    began = time.monotonic()
    with socket.create_connection((line.host, line.port), timeout=10.0) as connection:
        connection.sendall(b"PING\r\n" * 4)
        connection.settimeout(10.0)
        with contextlib.suppress(ConnectionResetError):
            connection.recv(1)
    return time.monotonic() - began
