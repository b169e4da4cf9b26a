"""From a scenario to its report: start, feed, disturb, wait until it is quiet, end, judge."""

import contextlib
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django_vtasks.brokers.base import FailedTask
from load_tests.bench import machine
from load_tests.chaos import account, grounds, leftovers, queues
from load_tests.chaos.account import Account, Verdict
from load_tests.chaos.run import Run
from load_tests.chaos.scenario import KILLED, Scenario
from tests.integration.probes import eventually

FEW = 5
ANSWERS = {"valkey": 5.5}
"""Seconds within which whoever enqueues is told what became of it, whatever the scenario: what is promised, and some.

On the others it is the driver that decides.
"""
TYPED = ("django_vtasks.errors.", "django.db.utils.")


def conduct(scenario: Scenario, kind: str, *, seed: int, seconds: float, keep: Path | None = None) -> dict[str, Any]:
    """Run a scenario on a store of a kind; return the report. Logs and ledger are left in ``keep`` after a failure."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        make = scenario.ground or grounds.GROUNDS[kind]
        ground = stack.enter_context(grounds.ground(make, scenario.disk))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vtasks-chaos-run-")))
        run, report = Run(scenario, ground, directory, seed=seed, seconds=seconds), dict[str, Any]()
        _set_up(run)
        try:
            _play(run)
            report = _report(run, _close_account(run))
        finally:
            run.close()
            if keep is not None and report.get("verdict") != Verdict.OK:
                _keep(directory, keep)
    return report | {"seconds": round(time.monotonic() - began, 1)}


def _keep(directory: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    for name in ("logs", "ledger"):
        shutil.copytree(directory / name, target / name)


def _set_up(run: Run) -> None:
    os.environ.update(run.environment())
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # a shell lets what it runs in the background ignore it
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    # Nothing is open when processes are started, and nothing in the way of what happens to connections.
    from django.db import connections

    connections.close_all()


def _play(run: Run) -> None:
    scenario = run.scenario
    for _ in range(scenario.workers):
        run.worker()
    if scenario.rate:
        run.begin_feeding()
    scenario.inject(run)
    if run.healed and run.is_fed:
        with contextlib.suppress(AssertionError):  # how long it took is judged below
            eventually(run.is_back, "work is back", scenario.bounds.back or FEW)
    run.stop_feeding()
    if not any(worker not in run.ending and worker.is_running for worker in run.workers):
        run.worker()


def _close_account(run: Run) -> Account:
    """Wait until it is quiet, end the workers, and add up."""
    stopped = time.monotonic()
    run.until(run.is_quiet, "every task has ended", run.scenario.bounds.quiet)
    run.facts["quiet after"] = round(time.monotonic() - stopped, 2)
    _end_workers(run)
    entries = run.broker.failed(10_000)
    failed = {entry.id for entry in entries}
    for missing in run.doomed - failed:
        run.problems.append(f"task {missing} should have failed for good and is not in the failed list")
    _look_for_causes(run, entries)
    leftovers.look(run)
    return account.account(run.ledger.events(), failed - run.doomed, run.faults, run.doomed)


def _look_for_causes(run: Run, entries: Iterable[FailedTask]) -> None:
    causeless = [entry.id for entry in entries if not (entry.failure.exception and entry.failure.message)]
    run.expect(not causeless, f"failed, and no cause is kept: {_few(causeless)}")


def _end_workers(run: Run) -> None:
    for worker in run.workers:
        if worker in run.ending:
            continue
        if not worker.is_running:
            run.problems.append(f"a worker ended by itself with {worker.process.returncode}: {worker.log[-500:]}")
            continue
        began = time.monotonic()
        worker.send(signal.SIGTERM)
        try:
            code = worker.exit_code(run.scenario.bounds.drain)
            run.expect(code == 0, f"a worker that was told to end ended with {code}")
        except AssertionError:
            run.problems.append(f"a worker did not end within {run.scenario.bounds.drain:g} s")
        run.facts["drain"] = max(run.facts.get("drain", 0.0), round(time.monotonic() - began, 2))


def _report(run: Run, found: Account) -> dict[str, Any]:
    scenario, events = run.scenario, run.ledger.events()
    if KILLED in run.bites:
        run.bites[KILLED] += account.interrupted(events, run.faults)
    delays = account.delays(events, run.faults)
    backs = [run.comeback(healed) for healed in run.healed]
    _hold_against_bounds(run, found, delays, backs)
    times = sorted([*delays, *(back for back in backs if back is not None), *run.recoveries])
    return {
        "scenario": scenario.name,
        "faults": list(scenario.faults),
        "backend": run.ground.kind,
        "seed": run.seed,
        "commit": machine.commit(),
        "load": round(os.getloadavg()[0], 1),
        "verdict": str(account.judge(run.bites, run.problems)),
        "kills": sum(len(fault.pids or ()) for fault in run.faults if fault.kind == "kill"),
        "bites": dict(run.bites),
        "accepted": found.accepted,
        "finished": found.finished,
        "refused": found.refused,
        "lost": len(found.lost),
        "reruns": found.reruns,
        "duplicates": len(found.duplicates),
        "spurious": len(found.spurious),
        "usual": round(run.usual, 1),
        "recovery_p50": round(statistics.median(times), 3) if times else None,
        "recovery_max": round(max(times), 3) if times else None,
        "facts": run.facts,
        "problems": _counted(run.problems),
    }


def _hold_against_bounds(run: Run, found: Account, delays: list[float], backs: list[float | None]) -> None:
    bounds = run.scenario.bounds
    if not bounds.loses:
        run.expect(not found.lost, f"lost: {_few(found.lost)}")
    run.expect(not found.duplicates, f"run again for no reason: {_few(found.duplicates)}")
    run.expect(not found.spurious, f"failed for no fault of theirs: {_few(found.spurious)}")
    run.expect(bounds.loses or not found.contradictory, f"ended twice: {_few(found.contradictory)}")
    run.expect(bounds.loses or not found.overlaps, f"accepted while its equal was under way: {_few(found.overlaps)}")
    run.expect(not found.strangers, f"ran unasked: {_few(found.strangers)}")
    run.expect(not found.unsettled, f"ended, and no store was told: {_few(found.unsettled)}")
    run.expect(not found.rebuffed, f"refused for no reason: {_few(found.rebuffed)}")
    most = run.scenario.slots * bounds.namesakes
    run.expect(found.at_once <= most, f"{found.at_once} tasks at once in a process that may run {most}")
    if bounds.again is not None:
        late = [f"{delay:.2f} s" for delay in delays if delay > bounds.again]
        run.expect(not late, f"ran again later than {bounds.again:g} s after a death: {_few(late)}")
    if bounds.back is not None:
        run.expect(backs or not all(run.bites.values()), "a return is promised, and no outage has ended")
        for back in backs:
            is_back = back is not None and back <= bounds.back
            run.expect(is_back, f"not at nine tenths of the usual rate {bounds.back:g} s after an outage: {back}")
    for event in run.ledger.events():
        if event.kind == "error":
            error, _, _ = event.note.partition(" ")
            run.expect(error.startswith(TYPED), f"an enqueue raised {error}")
    if bounds.answer is not None:
        limit = min(bounds.answer, ANSWERS.get(run.ground.kind, bounds.answer))
        took = queues.took(run.ledger.events()).values()
        run.facts["longest enqueue"] = round(max(took, default=0.0), 2)
        late = [f"{seconds:.1f} s" for seconds in took if seconds > limit]
        run.expect(not late, f"enqueues took longer than {limit:g} s: {_few(late)}")


def _counted(problems: list[str]) -> list[str]:
    return [problem if times == 1 else f"{times} × {problem}" for problem, times in Counter(problems).items()]


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:FEW]) + (f" and {len(keys) - FEW} more" if len(keys) > FEW else "")
