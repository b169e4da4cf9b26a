"""Actors that die, freeze, block or leave things behind."""

import time

from load_tests.chaos.run import LEASE, Run
from load_tests.chaos.scenario import KILLED, Bounds, scenario


@scenario(1, 66, bites=(KILLED,), bounds=Bounds(again=1.5))
def kill_actor(run: Run) -> None:
    """Kill -9 one actor in the middle of its tasks, again and again."""
    for _ in run.beats(0.3, 1.2):
        at_work = [pid for pid in run.actors().values() if run.ledger.running(pid)]
        if at_work:
            run.kill(run.chance.choice(at_work))


@scenario(2, bites=(KILLED,), bounds=Bounds(again=3.0))
def kill_all_actors(run: Run) -> None:
    """Kill -9 all actors at once, again and again."""
    for _ in run.beats(1.0, 3.0):
        run.kill(*run.workers[0].actors().values())


@scenario(5, bites=("frozen beyond the lease", "late ends refused"), workers=2, seconds=16.0)
def freeze_worker(run: Run) -> None:
    """SIGSTOP a whole worker for longer than its lease, then let it go on."""
    for _ in run.beats(1.0, 2.0):
        worker = run.chance.choice(run.workers)
        pids = [process.pid for process in worker.processes()]
        at_work = sum(map(run.ledger.running, pids))
        with run.frozen(*pids):
            time.sleep(LEASE * run.chance.uniform(1.5, 2.0))
        run.bit("frozen beyond the lease", at_work)
    run.until(lambda: run.ledger.count("fenced"), "an end that came too late", 10.0)
    run.bit("late ends refused", run.ledger.count("fenced"))
