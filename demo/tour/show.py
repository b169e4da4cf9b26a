"""The demo that ends by itself."""

import sys
import time

from django.conf import settings

from library import programme
from library.programme import Programme
from tour import progress, summary, verdict
from tour.processes import LOOK_EVERY, Command, Processes

READERS = 60


def show(processes: Processes, deadline: float) -> int:
    """Enqueue, watch, stop the worker, and report; return the exit code."""
    print(f"A reading room on SQLite, in {summary.shown(settings.VAR)}")
    worker = start_worker(processes)
    done = enqueue()
    in_time = _watch(done, worker, deadline)
    exit_code = worker.stop()
    if in_time:
        print(f"SIGTERM: the worker has stopped with exit code {exit_code}")
    print(f"\n{summary.of(done)}")
    right = _judge(done)
    if in_time and exit_code:
        print(worker.obituary())
    return 0 if in_time and right and not exit_code else 1


def start_worker(processes: Processes) -> Command:
    """Start runworker."""
    worker = processes.start(settings.VAR / "worker.log", "runworker")
    print(f"Worker: process {worker.pid}, queues {', '.join([*settings.VTASKS_QUEUES, *settings.VTASKS_BATCH_QUEUES])}")
    return worker


def enqueue() -> Programme:
    """Enqueue the programme, and say how much it is."""
    begun = time.monotonic()
    done = programme.enqueue(READERS)
    seconds = time.monotonic() - begun
    print(
        f"Enqueued: {len(done.enqueued)} tasks in {seconds:.2f} s, which will enqueue "
        f"{done.total - len(done.enqueued)} more; refused: {done.refused.total()} duplicates"
    )
    return done


def _watch(done: Programme, worker: Command, deadline: float) -> bool:
    """Show progress until nothing is left; return False when the worker ends or the time is up before."""
    view = progress.Progress(sys.stdout)
    give_up_at = time.monotonic() + deadline
    try:
        while (status := progress.look(done.total)).left:
            view.show(status)
            if worker.exit_code is not None or time.monotonic() > give_up_at:
                break
            time.sleep(LOOK_EVERY)
        view.show(status)
    finally:
        view.close()
    if not status.left:
        return True
    late = f"Not done within {deadline:g} s: {status.left} tasks are left."
    print(late if worker.exit_code is None else worker.obituary())
    return False


def _judge(done: Programme) -> bool:
    """Print the findings; return whether all is well."""
    print("The demo's own check:")
    findings = verdict.findings(done)
    for statement, problem in findings:
        print(f"  {'WRONG' if problem else 'ok':<5}  {statement}{': ' if problem else ''}{problem}")
    return not any(finding.problem for finding in findings)
