"""Supervisors that die or freeze, hosts that vanish, workers that are told to end."""

import time
from collections.abc import Callable, Sized
from functools import partial

from load_tests.chaos.run import LEASE, Run
from load_tests.chaos.scenario import KILLED, Bounds, scenario

ORPHANS = 2.0


@scenario(3, 66, bites=(KILLED,), bounds=Bounds(again=LEASE * 4 / 3 + 3.0), workers=2, seconds=15.0)
def kill_supervisor(run: Run) -> None:
    """Kill -9 the supervisor: its actors end by themselves, and another worker takes over within the lease."""
    for _ in run.beats(2.0, 4.0):
        worker = run.workers[-1]
        actors = list(worker.actors().values())
        run.kill(worker.process.pid)
        began = time.monotonic()
        worker.process.wait()
        run.ending.add(worker)
        run.until(partial(_is_nobody_in, worker.actors), "no actor is left without its supervisor", ORPHANS)
        gone = round(time.monotonic() - began, 3)
        run.facts["last orphan gone after"] = max(gone, run.facts.get("last orphan gone after", 0.0))
        run.until(partial(_is_nobody_in, worker.processes), "no process is left without its supervisor", 5.0)
        hit = frozenset([worker.process.pid, *actors])
        run.faults.append(run.faults.pop()._replace(pids=hit, ended=time.monotonic(), before=1.0))
        run.worker()


def _is_nobody_in(look: Callable[[], Sized]) -> bool:
    return not look()
