"""Actors that die, freeze, block or leave things behind."""

import os
import signal
import statistics
import time
from datetime import UTC, datetime
from functools import partial
from itertools import chain, pairwise
from typing import Any

import psutil

from load_tests.chaos import account, dooms, neighbours, processes
from load_tests.chaos.account import Fault
from load_tests.chaos.dooms import RESCUED
from load_tests.chaos.run import LEASE, LIVENESS, Run
from load_tests.chaos.scenario import KILLED, Bounds, scenario

FIRST, LAST = 1.0, 1.5
"""Seconds after an actor's death within which the first and the last of its tasks run again."""
DIED = "actors that died of a task"
HUNG = "actors killed because they hung"
STILLBORN = "actors that died at their start"
GROWING = 5
"""Pauses between restarts of which each must be longer than the one before."""
OTHER = "other"
TWO_QUEUES = {"queues": ("default", OTHER), "options": ("--processes", "1", "--concurrency", "8")}
LIVES_ON = LIVENESS + 3.0
"""Seconds until an actor that hangs is dead: its silence, the dump of its stacks, and some for a busy machine."""


@scenario(1, 66, bites=(KILLED,), bounds=Bounds(again=LAST))
def kill_actor(run: Run) -> None:
    """Kill -9 one actor in the middle of its tasks, again and again: the first runs again within a second.

    So does at least every other one; the last of them within 1.5 s, for they run one after the other.
    """
    for _ in run.beats(0.3, 1.2):
        at_work = [pid for pid in run.actors().values() if run.ledger.running(pid)]
        if at_work:
            run.kill(run.chance.choice(at_work))
    run.pass_time(LAST)
    events = run.ledger.events()
    delays = [found for fault in run.faults if (found := account.delays(events, [fault]))]
    first = max(map(min, delays), default=0.0)
    run.facts["latest first"] = round(first, 3)
    run.expect(first < FIRST, f"the first of a dead actor's tasks ran again later than {FIRST:g} s: {first:.2f} s")
    median = statistics.median(chain.from_iterable(delays)) if delays else 0.0
    run.expect(median < FIRST, f"half of the tasks ran again later than {median:.2f} s after a death")


@scenario(2, bites=(KILLED,), bounds=Bounds(again=3.0, back=5.0), **TWO_QUEUES)
def kill_all_actors(run: Run) -> None:
    """Kill -9 all actors at once, again and again."""
    for _ in run.beats(1.0, 3.0):
        run.kill(*run.workers[0].actors().values())
        run.healed.append(time.monotonic())


@scenario(5, bites=("frozen beyond the lease", "late ends refused"), workers=2, seconds=16.0)
def freeze_worker(run: Run) -> None:
    """SIGSTOP a whole worker for longer than its lease, then let it go on."""
    for _ in run.beats(1.0, 2.0):
        worker = run.chance.choice(run.workers)
        run.occupy(6, 1.0)
        pids = [process.pid for process in worker.processes()]
        at_work = sum(map(run.ledger.running, pids))
        with run.frozen(*pids):
            time.sleep(LEASE * run.chance.uniform(1.5, 2.0))
        run.bit("frozen beyond the lease", at_work)
    run.until(lambda: run.ledger.count("fenced"), "an end that came too late", 10.0)
    run.bit("late ends refused", run.ledger.count("fenced"))


@scenario(5, bites=(KILLED,), bounds=Bounds(again=LIVENESS + 4.0), seconds=16.0)
def freeze_actor(run: Run) -> None:
    """SIGSTOP one actor for good: its supervisor kills it, and its tasks run again."""
    for _ in run.beats(2.0, 4.0):
        at_work = [pid for pid in run.actors().values() if run.ledger.running(pid)]
        if at_work:
            pid, began = run.chance.choice(at_work), time.monotonic()
            os.kill(pid, signal.SIGSTOP)
            run.until(partial(processes.is_gone, pid), "the supervisor kills a frozen actor", LIVENESS + 5.0)
            run.faults.append(Fault("kill", began, time.monotonic(), frozenset([pid])))


@scenario(9, 10, bites=(DIED,), environment=RESCUED, seconds=16.0)
def deadly_tasks(run: Run) -> None:
    """Enqueue tasks that segfault, exit or kill their actor: they are given up with their cause, the others are not."""
    ways = ("segfault", "exit 0", "exit 3", "SIGKILL")
    dooms.bring(run, ways, 1.0)
    run.bit(DIED, dooms.deaths(run))
    said = {entry.failure.message for entry in run.broker.failed(1000)}
    for words in ("SIGSEGV", "exit code 0", "exit code 3", "SIGKILL"):
        run.expect(any(words in message for message in said), f"no failed task tells of {words}")


@scenario(10, bites=("tasks that raised",))
def raising_tasks(run: Run) -> None:
    """Enqueue tasks that raise SystemExit, KeyboardInterrupt, GeneratorExit and their like: each fails, none else."""
    from tests.workapp import tasks

    kinds = [*tasks.FAILURES, "RecursionError", "unserializable", "not finite"]
    for _ in run.beats(0.05, 0.2):
        task: Any = run.chance.choice([tasks.fail, tasks.afail, tasks.afail_later])
        run.doomed.add(task.enqueue(run.chance.choice(kinds)).id)
        run.bit("tasks that raised")
    run.expect(not run.said("ended: "), "an actor ended because a task raised")


@scenario(11, 12, bites=(HUNG,), environment=RESCUED, bounds=Bounds(quiet=60.0), seconds=10.0, **TWO_QUEUES)
def hanging_tasks(run: Run) -> None:
    """Block the loop of one queue's actor, by sleep, CPU or a held GIL: it is killed with its stacks, others go on."""
    began = time.monotonic()
    lives = dooms.bring(run, ("blocked", "spinning", "GIL held"), 3.0, name="adoom", within=LIVES_ON)
    run.facts["longest hang"] = round(lives.longest, 2)
    run.expect(lives.longest <= LIVES_ON, f"an actor that hung lived for {lives.longest:.1f} s")
    neighbours.judge_rate(run, OTHER, began)
    run.bit(HUNG, run.said("gave no sign of life"))
    stacks = [entry.failure.traceback for entry in run.broker.failed(1000)]
    run.expect(all("load_tests/chaos/tasks.py" in stack for stack in stacks), "a failed task lacks the stacks")


@scenario(13, bites=("tasks stuck in a thread",), seconds=6.0, environment={"VTASKS_SHUTDOWN_TIMEOUT": "2"})
def stuck_tasks(run: Run) -> None:
    """Tell a worker to end while tasks are stuck in threads: it ends in time, and gives them back unharmed."""
    from tests.workapp import tasks

    gates = run.directory / "gates"
    stuck: tuple[Any, ...] = (tasks.hold, tasks.hold_in_thread, tasks.hold_in_lane, tasks.stubborn)
    for task in stuck:
        task.enqueue(task.func.__name__)
    run.until(lambda: all(list(gates.glob(f"{task.func.__name__}.1")) for task in stuck), "they run")
    run.bit("tasks stuck in a thread", len(stuck))
    run.tell(run.workers[0], signal.SIGTERM, within=4.0)
    run.expect(run.broker.failed_count() == 0, "a task failed because its worker was told to end")
    for task in stuck:
        (gates / f"{task.func.__name__}-open").touch()
    run.worker()
    run.pass_time(1.0)


@scenario(14, bites=("processes left behind",), seconds=8.0)
def leftover_processes(run: Run) -> None:
    """Let tasks leave forks and programs behind, and kill their actors: none is left, and none is a zombie."""
    import json

    from tests.workapp import tasks

    left: list[int] = []
    gates = run.directory / "gates"
    for number, _ in enumerate(run.beats(0.5, 1.0)):
        tasks.leave_processes_behind.enqueue(f"left{number}")
        entry = gates / f"left{number}.1"
        if run.until(entry.exists, "a task has left processes behind"):
            facts = json.loads(entry.read_text())
            left += facts["left"]
            run.bit("processes left behind", sum(map(psutil.pid_exists, facts["left"])))
            run.pass_time(0.3)
            run.kill(facts["pid"])
            run.until(partial(_are_gone, left), "they end with their actor", 5.0)


@scenario(15, bites=(STILLBORN,), seconds=12.0, workers=0, rate=0.0, bounds=Bounds(quiet=90.0), **TWO_QUEUES)
def crash_loop(run: Run) -> None:
    """Let an actor die at each start: restarts slow down, nobody is a zombie, the other queue goes on."""
    curse = run.directory / "curse"
    worker = run.worker(CHAOS_CURSE=str(curse))
    run.begin_feeding()
    tree, began = psutil.Process(worker.process.pid), time.monotonic()
    curse.touch()
    run.kill(run.actors()["default#1"])
    run.pass_time(run.seconds)
    deaths = [_seconds(line) for line in worker.log_lines(" default#1 ended: ")]
    curse.unlink()
    run.bit(STILLBORN, len(deaths) - 1)  # the first was at work
    pauses = [round(later - earlier, 2) for earlier, later in pairwise(deaths)]
    run.facts["longest pause"] = max(pauses, default=0.0)
    grows = all(later > earlier for earlier, later in pairwise(pauses[-GROWING:]))
    run.expect(grows and len(pauses) >= GROWING, f"restarts do not slow down: {pauses}")
    neighbours.judge_rate(run, OTHER, began)
    zombies = [child for child in tree.children(recursive=True) if processes.is_zombie(child)]
    run.expect(len(zombies) <= 1, f"zombies: {zombies}")  # one may be about to be buried
    run.expect(run.workers[0].is_running, "the worker gave up although its other queue was well")


def _seconds(line: str) -> float:
    """Return the time of a line of a log."""
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").replace(tzinfo=UTC).timestamp()


def _are_gone(pids: list[int]) -> bool:
    return not any(map(psutil.pid_exists, pids))
