"""Schedulers that freeze, are cut off, or are all away: no slot twice, none without reason."""

import contextlib
import os
import time
from pathlib import Path

from load_tests.chaos import slots
from load_tests.chaos.grounds import SERVED
from load_tests.chaos.run import LEASE, Run
from load_tests.chaos.scenario import EVERYWHERE, Bounds, scenario
from load_tests.chaos.slots import Slots
from tests.integration.workers import WorkerProcess

EVERY = 0.2
ENTRY = {"task": "load_tests.chaos.tasks.tick", "schedule": EVERY, "args": ["tick"], "misfire": "all"}
"""With "all" no slot is left out: there are as many tasks as slots, or one was lost or done twice."""
SCHEDULE = {"VTASKS_SCHEDULE": {"tick": ENTRY}}
ROLE = "scheduler"
LEADS = "leads the schedule of"
"""What a scheduler says when it has taken the lead."""
FOLLOWED = "leaders that were followed"
JUMPED = "jumps of a leader's clock, as it noticed"
MADE_UP = "slots made up for later than a second"
LATE = 1.0
OFFSETS = (-3600.0, 0.0, 300.0, 3600.0)
CLOCK = """
import os, pathlib, time

def now(usual=time.time, offset=pathlib.Path(os.environ["CHAOS_CLOCK"])):
    return usual() + float(offset.read_text())

time.time = now
"""
"""Put before all that a worker does: its clock is off by what a file says."""
SCHEDULING = {
    "workers": 2,
    "rate": 30.0,
    "options": ("--processes", "1", "--concurrency", "8", "--scheduler"),
    "settings": SCHEDULE,
}


@scenario(7, bites=(FOLLOWED,), seconds=20.0, bounds=Bounds(), **SCHEDULING)
def freeze_scheduler(run: Run) -> None:
    """SIGSTOP the scheduler that leads, alone or with all of its worker, until another leads: each slot is one task."""
    for _ in run.beats(1.0, 2.0):
        leader = _leader(run)
        terms = leader.log.count(LEADS)
        pids = [leader.actors()[ROLE]] if _is_alone(run) else [each.pid for each in leader.processes()]
        with run.frozen(*pids):
            _until_followed(run, leader, terms)
    judge_slots(run)


@scenario(7, bites=(FOLLOWED,), seconds=15.0, **SCHEDULING)
def kill_scheduler(run: Run) -> None:
    """Kill -9 the scheduler that leads, alone or with all of its worker: another leads, and each slot is one task."""
    for _ in run.beats(1.0, 2.0):
        leader = _leader(run)
        terms = leader.log.count(LEADS)
        if is_alone := _is_alone(run):
            run.kill(leader.actors()[ROLE])
        else:
            run.kill_worker(leader)
        _until_followed(run, leader, terms)
        if not is_alone:
            run.worker()
    judge_slots(run)


@scenario(50, bites=(FOLLOWED,), stores=SERVED, seconds=3 * LEASE, **(SCHEDULING | {"workers": 1}))
def partition_scheduler(run: Run) -> None:
    """Let the line of the leader alone go dead: another leads, and when it is back each slot is still one task."""
    with contextlib.closing(run.ground.line()) as line:
        cut_off = run.worker(line=line)
        run.end(run.workers[0])  # so that the one on the line leads
        run.until(lambda: _leads(run, cut_off), "the one on the line leads")
        run.worker()
        pids = frozenset(process.pid for process in cut_off.processes())
        with run.outage("partition", after=20.0):
            line.go_dead()
            _until_followed(run, cut_off, cut_off.log.count(LEADS))
            run.pass_time(2.0)
            line.revive()
        run.faults.append(run.faults.pop()._replace(pids=pids))
        run.healed.clear()  # the others went on meanwhile
        run.pass_time(run.seconds)
        judge_slots(run)
        run.stop_feeding()
        run.until(run.is_quiet, "every task has ended")
        run.end(cut_off)


@scenario(51, bites=(MADE_UP,), seconds=4.0, **(SCHEDULING | {"workers": 1}))
def schedulers_down(run: Run) -> None:
    """Have no scheduler for many slots: with misfire "all", each is made up for."""
    run.end(run.workers[0])
    before = run.ledger.count("start")
    run.pass_time(run.seconds)
    run.expect(run.ledger.count("start") == before, "something ran without a worker")
    run.worker()
    run.pass_time(2.0)
    judge_slots(run)
    epoch = time.time() - time.monotonic()
    late = [epoch + at - slot for slot, at in slots.of_entry(run.ledger.events(), "tick").enqueued.items()]
    run.bit(MADE_UP, sum(lateness > LATE for lateness in late))


@scenario(
    48,
    49,
    bites=(JUMPED,),
    seconds=12.0,
    stores=EVERYWHERE,
    **(SCHEDULING | {"workers": 0, "rate": 0.0}),
)
def wrong_clocks(run: Run) -> None:
    """Let the clocks of two hosts be five minutes apart, and the leader's jump by an hour: no slot is done twice."""
    clocks = [_clock(run, name) for name in ("one", "other")]
    for name, clock, offset in zip(("one", "other"), clocks, (0.0, 300.0), strict=True):
        clock.write_text(str(offset))
        path = f"{clock.parent}{os.pathsep}{run.environment()['PYTHONPATH']}"
        run.worker(VTASKS_WORKER_ID=name, PYTHONPATH=path, CHAOS_CLOCK=str(clock))
    run.begin_feeding()
    for _ in run.beats(1.0, 2.0):
        clock = clocks[run.workers.index(_leader(run))]
        others = [offset for offset in OFFSETS if offset != float(clock.read_text())]
        clock.with_suffix(".draft").write_text(str(run.chance.choice(others)))
        clock.with_suffix(".draft").replace(clock)
    run.pass_time(1.0)
    run.bit(JUMPED, run.said("The clock has been set by"))
    run.expect(not run.said("had run out"), "a lease was lost although only clocks of hosts were wrong")
    run.stop_feeding()
    run.until(run.is_quiet, "every task has ended")
    # Which slots there are depends on the clock of who led; that none is done twice does not.
    _judge_once(run)


def _leader(run: Run) -> WorkerProcess:
    """Wait until one of the workers leads whose scheduler is there, and return it."""
    found: list[WorkerProcess] = []

    def is_found() -> bool:
        found[:] = [worker for worker in run.workers if _leads(run, worker) and ROLE in worker.actors()]
        return bool(found)

    run.until(is_found, "one of the workers leads")
    return found[0]


def _leads(run: Run, worker: WorkerProcess) -> bool:
    return str(worker.process.pid) in (run.broker.leader(ROLE) or "").split("-")


def _is_alone(run: Run) -> bool:
    """Let chance decide whether a scheduler is met alone, or with all of its worker."""
    is_alone = run.chance.random() < 1 / 2
    what = "schedulers alone" if is_alone else "whole workers"
    run.facts[what] = run.facts.get(what, 0) + 1
    return is_alone


def _until_followed(run: Run, former: WorkerProcess, terms: int) -> None:
    """Wait until another leads: one of another worker, or the next one of a worker that has led so many times."""

    def is_followed() -> bool:
        return former.log.count(LEADS) > terms or bool(run.broker.leader(ROLE) and not _leads(run, former))

    run.bit(FOLLOWED, run.until(is_followed, "another leads", 3 * LEASE))


def judge_slots(run: Run) -> None:
    """End all schedulers, let what they have enqueued run, and hold the tasks against the slots of the store."""
    run.stop_feeding()
    for worker in run.workers:
        if worker not in run.ending:
            run.end(worker)
    run.worker("--processes", "1", "--concurrency", "8")
    run.until(run.is_quiet, "every slot's task has ended")
    standing = run.broker.standings()["tick"]
    there_were = round(standing.last / EVERY) - int(standing.since // EVERY)
    done = len(_judge_once(run).enqueued)
    run.expect(done == there_were, f"of {there_were} slots {done} became tasks")


def _judge_once(run: Run) -> Slots:
    """Hold the tasks that have run against the slots that they were made for; a run again has its own account."""
    found = slots.of_entry(run.ledger.events(), "tick")
    run.facts["slots"] = len(found.enqueued)
    run.expect(not found.doubled, f"slots that became more than one task: {found.doubled[:5]}")
    run.expect(not found.unknown, f"tasks of no slot: {found.unknown[:5]}")
    return found


def _clock(run: Run, name: str) -> Path:
    directory = run.directory / f"clock-{name}"
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(CLOCK)
    return directory / "offset"
