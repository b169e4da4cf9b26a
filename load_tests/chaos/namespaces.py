"""Hosts as network namespaces: each has a name and a cable of its own, and nothing else reaches it."""

import contextlib
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from load_tests.chaos import account, needs
from load_tests.chaos.account import Fault
from load_tests.chaos.grounds import SERVED
from load_tests.chaos.run import LEASE, Run
from load_tests.chaos.scenario import KILLED, Bounds, scenario
from tests.integration.probes import eventually
from tests.integration.proxies import Proxy
from tests.integration.workers import RUNWORKER, WorkerProcess

CUT_OFF = "running tasks cut off"
PATIENCE = 30.0
"""Seconds for a command that should take none."""
SAME = "workers with the same pid and name"
FENCED = "late ends refused"
LONG = 8
"""Tasks that take long, so that a host is at work in any case; what was cut off runs again one after the other."""
TOOK_BACK = re.compile(r"^(\S+ \S+) .*Took back \d+ tasks of vanished workers", re.MULTILINE)
TAKEN_BACK = LEASE / 3, LEASE + 0.5
"""Seconds within which what a host held that is away is taken back; sooner only what is left of another host."""
TAKES_OVER = LEASE * 4 / 3 + 2.5
"""Seconds within which what was running there runs again: one by one, as suspects, among what was only claimed."""
HOSTED = {"stores": SERVED, "workers": 0, "rate": 0.0, "needs": (needs.ADMIN, needs.IPROUTE)}
_numbers = itertools.count(1)


class Host(NamedTuple):
    """A host with a worker on it, ``near`` is our end of its cable, and ``line`` leads from there to the store."""

    name: str
    near: str
    line: Proxy
    worker: WorkerProcess


@scenario(4, bites=(KILLED,), bounds=Bounds(again=TAKES_OVER), seconds=12.0, **HOSTED)
def lose_host(run: Run) -> None:
    """Kill all processes of a host at once: another takes its tasks back within the lease and half a second."""
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(_host(run)) for _ in range(2)]
        run.begin_feeding()
        for _ in run.beats(2.0, 3.0):
            run.occupy(4, 1.0)
            at_work = [host for host in hosts if _at_work(run, host)]
            if at_work:
                lost = run.chance.choice(at_work)
                run.kill_worker(lost.worker)
                _judge_taken_back(run, run.faults[-1])
                hosts[hosts.index(lost)] = stack.enter_context(_host(run))
        _finish(run)


@scenario(4, 31, 66, bites=(CUT_OFF, FENCED), seconds=3 * LEASE, **HOSTED)
def partition_host(run: Run) -> None:
    """Take a host's link down for three leases: others run its tasks, and what it settles later is refused."""
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(_host(run)) for _ in range(2)]
        run.begin_feeding()
        run.occupy(LONG, 2.0)
        run.until(lambda: _at_work(run, hosts[0]), "the host is at work")
        pids = {process.pid for process in hosts[0].worker.processes()}
        run.bit(CUT_OFF, _at_work(run, hosts[0]))
        with run.outage("partition", after=20.0):
            _ip("link", "set", hosts[0].near, "down")
            run.pass_time(run.seconds)
            sick = _status(hosts[0], run.ports[hosts[0].worker])
            run.expect(sick == 503, f"health says {sick} on a host that is cut off")  # noqa: PLR2004
            _ip("link", "set", hosts[0].near, "up")
        cut = run.faults.pop()._replace(pids=frozenset(pids))
        run.faults.append(cut)
        run.healed.clear()  # the others went on meanwhile
        _judge_taken_back(run, cut)
        over = _taken_over(run, cut)
        run.expect(over <= TAKES_OVER, f"what was cut off ran nowhere within {TAKES_OVER:g} s: {over} s")
        run.recoveries.append(over)
        run.until(lambda: run.ledger.count("fenced"), "an end that came too late")
        run.bit(FENCED, run.ledger.count("fenced"))
        before = _ends(run, pids)
        run.until(lambda: _ends(run, pids) > before, "the host takes part again")
        _finish(run)


@scenario(62, bites=(SAME, KILLED), bounds=Bounds(again=TAKES_OVER + LONG, namesakes=2), seconds=15.0, **HOSTED)
def cloned_hosts(run: Run) -> None:
    """Run workers that have the same hostname, the same id and the same pid: each has a lease of its own."""
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(_host(run, name="clone", own_pids=True)) for _ in range(2)]
        run.begin_feeding()
        nodes = [node.rpartition("-")[0] for node in run.broker.nodes()]
        run.bit(SAME, len(nodes) - len(set(nodes)))
        for _ in run.beats(3.0, 4.0):
            run.occupy(LONG, 1.0)
            run.kill_worker(hosts.pop(0).worker)  # by chance the other has all that is long: hence again and again
            # The process ids in the ledger are those that the hosts themselves see, and the same on both.
            run.faults.append(run.faults.pop()._replace(pids=None))
            hosts.append(stack.enter_context(_host(run, name="clone", own_pids=True)))
        run.pass_time(LEASE)
        _finish(run)


@contextlib.contextmanager
def _host(run: Run, name: str | None = None, *, own_pids: bool = False) -> Iterator[Host]:
    """Make a host, and run a worker on it that reaches the store through its cable alone."""
    number = next(_numbers)
    net, near = f"vtc{os.getpid()}-{number}", f"v{os.getpid() % 100_000}-{number}"
    base = f"10.{64 + os.getpid() % 64}.{number}"
    with contextlib.ExitStack() as stack:
        _ip("netns", "add", net)
        stack.callback(_ip, "netns", "del", net)
        _ip("link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", net)
        _ip("addr", "add", f"{base}.1/24", "dev", near)
        _ip("link", "set", near, "up")
        _ip("-n", net, "link", "set", "lo", "up")
        _ip("-n", net, "addr", "add", f"{base}.2/24", "dev", "eth0")
        _ip("-n", net, "link", "set", "eth0", "up")
        line = run.ground.line(f"{base}.1")
        stack.callback(line.close)
        enter = ("-m", "load_tests.chaos.enter", net, name or f"host-{number}", "pid" if own_pids else "-")
        environment = {"VTASKS_WORKER_ID": name} if name else {}
        worker = run.worker(line=line, command=(*enter, *RUNWORKER), **environment)
        yield Host(net, near, line, worker)
        worker.kill() if worker in run.ending else run.end(worker)


def _judge_taken_back(run: Run, fault: Fault) -> None:
    """Wait until what a host held that is away is taken back, and hold that against the lease."""
    with contextlib.suppress(AssertionError):  # which is judged here
        eventually(lambda: _taken_back(run, fault) < float("inf"), "tasks are taken back", TAKES_OVER)
    first, latest = _taken_back(run, fault), TAKEN_BACK[1]
    run.facts["first taken back after"] = max(first, run.facts.get("first taken back after", 0.0))
    run.expect(first <= latest, f"nobody took anything back within {latest:g} s: {first} s")


def _taken_back(run: Run, fault: Fault) -> float:
    """Return how many seconds after a fault some worker first said that it had taken tasks back."""
    began = datetime.fromtimestamp(time.time() - time.monotonic() + fault.began)  # noqa: DTZ006 - as logs tell it
    times = [
        datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f")  # noqa: DTZ007 - likewise
        for worker in run.workers
        for at in TOOK_BACK.findall(worker.log)
    ]
    after = [seconds for at in times if (seconds := (at - began).total_seconds()) >= TAKEN_BACK[0]]
    return round(min(after, default=float("inf")), 3)


def _taken_over(run: Run, cut: Fault) -> float:
    """Return after how many seconds the first of the tasks that were cut off ran elsewhere."""
    assert cut.pids is not None
    found = [
        one.start - cut.began
        for runs in account.executions(run.ledger.events()).values()
        if any(one.pid in cut.pids and one.start < cut.began < (one.end or cut.ended) for one in runs)
        for one in runs
        if one.pid not in cut.pids and one.start > cut.began
    ]
    return round(min(found, default=float("inf")), 3)


def _status(host: Host, port: int) -> int:
    """Return the status of a host's health page, asked on the host itself."""
    ask = f"import http.client as h; c = h.HTTPConnection('127.0.0.1', {port}, timeout=9); c.request('GET', '/health')"
    command = ["ip", "netns", "exec", host.name, sys.executable, "-c", f"{ask}; print(c.getresponse().status)"]
    done = subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE)
    return int(done.stdout or 0)


def _finish(run: Run) -> None:
    """Let all tasks end while the hosts are there."""
    run.pass_time(1.0)
    run.stop_feeding()
    run.until(run.is_quiet, "every task has ended", run.scenario.bounds.quiet)


def _at_work(run: Run, host: Host) -> int:
    return sum(run.ledger.running(process.pid) for process in host.worker.processes())


def _ends(run: Run, pids: set[int]) -> int:
    return sum(event.kind == "end" and event.pid in pids for event in run.ledger.events())


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=PATIENCE)  # noqa: S607 - wherever it is
