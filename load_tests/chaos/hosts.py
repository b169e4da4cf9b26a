"""Supervisors that die or freeze, and workers that are told to end."""

import os
import signal
import time
from collections.abc import Callable, Sized
from functools import partial

import psutil

from load_tests.chaos import account, queues
from load_tests.chaos.run import LEASE, Run
from load_tests.chaos.scenario import KILLED, Bounds, scenario
from tests.integration.workers import WorkerProcess

ORPHANS = 2.0
TOLD = "running tasks when told to end"
DEPLOYMENTS = 20
PROCESSES = 2
FROZEN = "running tasks of frozen supervisors"
ELSEWHERE = "of these, run again elsewhere"


@scenario(3, 66, bites=(KILLED,), bounds=Bounds(again=LEASE * 4 / 3 + 3.0), workers=2, seconds=15.0)
def kill_supervisor(run: Run) -> None:
    """Kill -9 the supervisor: its actors end by themselves, and another worker takes over within the lease."""
    for _ in run.beats(2.0, 4.0):
        worker = run.workers[-1]
        run.occupy(4, 1.0)
        actors = list(worker.actors().values())
        run.kill(worker.process.pid)
        began = time.monotonic()
        worker.process.wait()
        run.killed.add(worker)
        run.until(partial(_is_nobody_in, worker.actors), "no actor is left without its supervisor", ORPHANS)
        gone = round(time.monotonic() - began, 3)
        run.facts["last orphan gone after"] = max(gone, run.facts.get("last orphan gone after", 0.0))
        run.until(partial(_is_nobody_in, worker.processes), "no process is left without its supervisor", 5.0)
        hit = frozenset([worker.process.pid, *actors])
        run.faults.append(run.faults.pop()._replace(pids=hit, ended=time.monotonic(), before=1.0))
        run.worker()


@scenario(6, bites=(FROZEN, ELSEWHERE, "health pages without an answer"), workers=2, seconds=20.0)
def freeze_supervisor(run: Run) -> None:
    """SIGSTOP a supervisor for longer than its lease: others take its tasks, and its actors settle none of them."""
    for _ in run.beats(1.0, 2.0):
        run.occupy(6, LEASE * 3)  # so that they end neither before the lease nor before their actor learns of its end
        worker = max(run.workers, key=partial(_at_work, run))
        pids = {process.pid for process in worker.processes()}
        run.bit(FROZEN, _at_work(run, worker))
        with run.frozen(worker.process.pid):
            run.pass_time(LEASE * run.chance.uniform(1.5, 2.0))
            run.bit("health pages without an answer", run.pages[worker].status("/live") != 200)  # noqa: PLR2004
        frozen = run.faults.pop()._replace(pids=frozenset(pids))
        run.faults.append(frozen)
        again = [
            one
            for runs in account.executions(run.ledger.events()).values()
            if any(one.pid in pids and one.start < frozen.began for one in runs)
            for one in runs
            if one.pid not in pids and one.start > frozen.began
        ]
        run.bit(ELSEWHERE, len(again))


@scenario(6, bites=("fork servers killed",), bounds=Bounds(again=8.0), seconds=12.0)
def kill_fork_server(run: Run) -> None:
    """Kill -9 the process that actors are forked from, then an actor: another is started all the same."""
    for _ in run.beats(2.0, 3.0):
        actors = run.actors()
        parents = {psutil.Process(pid).ppid() for pid in actors.values()} - {run.workers[0].process.pid, os.getpid(), 1}
        for parent in parents:
            os.kill(parent, signal.SIGKILL)
            run.bit("fork servers killed")
        run.kill(run.chance.choice(list(actors.values())))
        run.until(lambda: len(run.actors()) >= PROCESSES, "there are as many actors as before", 10.0)


@scenario(59, 61, bites=(TOLD,), bounds=Bounds(), seconds=12.0, workers=2)
def rolling_deploy(run: Run) -> None:
    """Start a new worker and tell an old one to end, again and again: nothing runs twice, nobody waits long."""
    for _ in range(DEPLOYMENTS):
        run.worker()
        old = next(worker for worker in run.workers if worker not in run.ending)
        run.pass_time(run.chance.uniform(0.0, 0.4))
        run.occupy(4, 0.3)
        run.bit(TOLD, sum(run.ledger.running(process.pid) for process in old.processes()))
        run.tell(old, signal.SIGTERM, within=run.scenario.bounds.drain, spares=True)
    run.facts["p99 wait"] = round(queues.share(queues.waits(run.ledger.events(), "default"), 0.99), 3)
    run.expect(run.facts["p99 wait"] < 2.5, "p99 of the wait for a start is beyond 2.5 s")  # noqa: PLR2004


@scenario(59, 60, bites=(TOLD, "told while starting"), seconds=30.0, bounds=Bounds(drain=8.0), workers=2,
          environment={"VTASKS_SHUTDOWN_TIMEOUT": "4"})  # fmt: skip
def signals_at_any_moment(run: Run) -> None:
    """Send TERM, INT, QUIT, HUP, once or twice, at any moment from the start on: nothing is lost, no attempt spent."""
    term, int_, quit_ = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT
    once = ((term,), (int_,), (quit_,))
    ways = (*once, (term, term), (int_, int_), (term, quit_), (signal.SIGHUP, term))
    for number, _ in enumerate(run.beats(0.2, 0.6)):
        worker, way = run.start(), ways[number % len(ways)]
        if number % 2:
            worker.until_ready()
            run.occupy(6, 1.0)
        else:
            run.pass_time(run.chance.uniform(0.0, 2.5))
        run.bit("told while starting", not worker.is_ready)
        at_work = [run.ledger.running(process.pid) for process in worker.processes()]
        run.bit(TOLD, sum(at_work))
        run.tell(worker, *way, within=run.scenario.bounds.drain)
    spent = {event.key for event in run.ledger.events() if event.kind == "start" and event.note != "1"}
    run.expect(not spent, f"an attempt was spent by the end of a worker: {sorted(spent)[:5]}")


@scenario(59, bites=("actors replaced",), seconds=12.0)
def recycle_actors(run: Run) -> None:
    """Send HUP again and again: each actor is replaced once its successor is ready, and nothing runs twice."""
    for _ in run.beats(2.0, 3.0):
        before = set(run.actors().values())
        run.workers[0].send(signal.SIGHUP)
        run.until(partial(_are_others, run, before), "all actors are replaced")
        run.bit("actors replaced", len(before))


def _at_work(run: Run, worker: WorkerProcess) -> int:
    return sum(run.ledger.running(process.pid) for process in worker.processes())


def _are_others(run: Run, before: set[int]) -> bool:
    now = set(run.actors().values())
    return len(now) == len(before) and not now & before


def _is_nobody_in(look: Callable[[], Sized]) -> bool:
    return not look()
