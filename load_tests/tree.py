"""What a worker's tree of processes costs, and how it takes being killed."""

import json
import os
import random
import re
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from load_tests.scenarios import DRAIN_TIMEOUT, Figures, backend, empty_queue, enqueue, left
from load_tests.stage import Worker

ACTORS = 8
KILLS = 20
WARM_UP = 2000
IDLE_SECONDS = 30.0
SETTLE = 60.0
"""Seconds of silence after which SQLite's workers look as seldom as they ever do."""
PATIENCE = 30.0
KILL_EVERY = 0.2
_ACTOR = re.compile(r"vtasks: (.+#\d+)\s*$")


def start(count: int) -> Figures:
    """Start eight actors: seconds from the end of the preload until all are ready, and from the command itself."""
    with empty_queue(), _tree() as tree:
        began = tree.worker.began_at
        tree.wait_for_actors(ACTORS)
        stamps = tree.stamps("ready")
        return {"s after preload": max(stamps) - min(tree.stamps("preloaded")), "s in all": max(stamps) - began}


def memory(count: int) -> Figures:
    """Add up the PSS of eight actors and all else that belongs to the tree, idle."""
    with empty_queue(), _tree() as tree:
        tree.wait_for_actors(ACTORS)
        time.sleep(2.0)
        parts = {process.pid: process.memory_full_info() for process in tree.processes()}
        actors = [parts[pid] for pid in tree.actors().values()]
        return {
            "MB PSS": sum(part.pss for part in parts.values()) / 1e6,
            "MB PSS/actor": statistics.median(part.pss for part in actors) / 1e6,
            "MB USS/actor": statistics.median(part.uss for part in actors) / 1e6,
            "processes": len(parts),
        }


def idle(count: int) -> Figures:
    """Measure the CPU of each process of a tree of eight actors that has been idle for a while; the busiest counts."""
    with empty_queue(), _tree() as tree:
        tree.wait_for_actors(ACTORS)
        time.sleep(SETTLE)
        before = {process: sum(process.cpu_times()[:2]) for process in tree.processes()}
        time.sleep(IDLE_SECONDS)
        percent = {
            process: 100 * (sum(process.cpu_times()[:2]) - cpu) / IDLE_SECONDS for process, cpu in before.items()
        }
        actors = set(tree.actors().values())
        return {
            "% supervisor": percent[tree.root],
            "% busiest actor": max(cpu for process, cpu in percent.items() if process.pid in actors),
            "% all": sum(percent.values()),
        }


def restart(count: int) -> Figures:
    """Kill -9 an actor that runs a task, 20 times: milliseconds until another is ready, and until the task runs again.

    Each has worked before, so that none is taken for one that can only die, and made to wait.
    """
    ready, again = [], []
    with empty_queue(), _tree() as tree:
        tree.wait_for_actors(ACTORS)
        for kill in range(KILLS):
            to_ready, to_run = _kill(tree, tree.path / f"hold-{kill}")
            ready.append(to_ready)
            again.append(to_run)
    return {"ms to ready": statistics.median(ready), "ms to run again": statistics.median(again)}


def _kill(tree: "_Tree", marker: Path) -> tuple[float, float]:
    """Kill the actor of a task; return the milliseconds until another actor, and until another run."""
    enqueue("sleep_10_ms", WARM_UP)
    until(lambda: not left(), "the actors have worked")
    time.sleep(1.1)  # the longest pause between two beats that say so
    enqueue_one("hold", str(marker))
    until(lambda: marker.exists() and marker.read_text().endswith("\n"), "the task runs")
    before = len(tree.stamps("ready"))
    killed = time.time()
    os.kill(int(marker.read_text().split()[0]), signal.SIGKILL)
    until(lambda: len(marker.read_text().splitlines()) > 1, "the task runs again")
    until(lambda: len(tree.stamps("ready")) > before, "another actor is ready")
    marker.with_suffix(".open").touch()
    until(lambda: not left(), "the task is settled")
    tree.wait_for_actors(ACTORS)
    again = float(marker.read_text().splitlines()[1].split()[1])
    return 1000 * (tree.stamps("ready")[before] - killed), 1000 * (again - killed)


def stop(count: int) -> Figures:
    """End an idle tree of eight actors by SIGTERM: seconds until its last process is gone."""
    with empty_queue(), _tree() as tree:
        tree.wait_for_actors(ACTORS)
        processes = tree.processes()
        began = time.perf_counter()
        tree.root.send_signal(signal.SIGTERM)
        tree.worker.process.wait(PATIENCE)
        exited = time.perf_counter() - began
        until(lambda: not any(map(_is_alive, processes)), "all processes are gone")
        return {"s to exit": exited, "s to last process": time.perf_counter() - began}


def orphan(count: int) -> Figures:
    """Kill -9 the supervisor of eight actors: seconds until its last process is gone."""
    with empty_queue(), _tree() as tree:
        tree.wait_for_actors(ACTORS)
        others = [process for process in tree.processes() if process != tree.root]
        pids = set(tree.actors().values())
        began = time.perf_counter()
        tree.root.kill()
        actors = [process for process in others if process.pid in pids]
        until(lambda: not any(map(_is_alive, actors)), "the actors are gone")
        gone = time.perf_counter() - began
        until(lambda: not any(map(_is_alive, others)), "all processes are gone")
        return {"s to last actor": gone, "s to last process": time.perf_counter() - began}


def kill_drain(count: int) -> Figures:
    """Kill a random actor every 200 ms while 20,000 tasks drain; all must be in the ledger, none failed."""
    kills, tasks = 0, 20_000
    with empty_queue(), tempfile.TemporaryDirectory(prefix="vtasks-ledger-") as ledger:
        enqueue("mark", tasks, Path(ledger))  # before there is a worker: a fast one would be done before the first kill
        with _tree(actors=4) as tree:
            began = due = time.monotonic()
            while left():
                if time.monotonic() - began > DRAIN_TIMEOUT:
                    raise RuntimeError(f"{left()} tasks did not end.")
                if time.monotonic() >= due and (actors := tree.actors()):
                    with suppress(ProcessLookupError):
                        os.kill(random.choice(list(actors.values())), signal.SIGKILL)  # noqa: S311 - no secret
                        kills += 1
                    due += KILL_EVERY
                time.sleep(0.01)
            took = time.monotonic() - began
        runs = [len(entry.read_text()) for entry in Path(ledger).iterdir()]
        failed = backend().broker.failed_count()
    if len(runs) != tasks or failed or not kills:
        raise RuntimeError(f"{len(runs)} of {tasks} tasks ran, {failed} failed, {kills} kills.")
    return {"kills": kills, "lost": tasks - len(runs), "failed": failed, "run again": sum(runs) - tasks, "s": took}


SCENARIOS: dict[str, Callable[[int], Figures]] = {
    scenario.__name__: scenario for scenario in (start, memory, idle, restart, stop, orphan, kill_drain)
}


class _Tree:
    def __init__(self, worker: Worker, path: Path) -> None:
        self.worker = worker
        self.path = path
        self.root = psutil.Process(worker.process.pid)

    def processes(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if session_of(process.pid) == self.root.pid]

    def actors(self) -> dict[str, int]:
        found = {}
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                if match := _ACTOR.match(" ".join(process.cmdline())):
                    found[match[1]] = process.pid
        return found

    def stamps(self, what: str) -> list[float]:
        """Return the times, in order, at which something happened in any of the processes."""
        stamps = (json.loads(line) for line in (self.path / "stamps").read_text().splitlines())
        return sorted(at for said, at in stamps if said == what)

    def wait_for_actors(self, number: int) -> None:
        stamps = self.path / "stamps"
        until(lambda: stamps.exists() and len(self.stamps("ready")) >= number, f"{number} actors are ready")
        until(lambda: len(self.actors()) >= number, f"{number} actors are there")


@contextmanager
def _tree(actors: int = ACTORS) -> Iterator[_Tree]:
    with tempfile.TemporaryDirectory(prefix="vtasks-tree-") as directory:
        os.environ["LOAD_TEST_STAMPS"] = str(Path(directory) / "stamps")
        worker = Worker(f"--processes={actors}", "--concurrency=20", own_session=True)
        tree = _Tree(worker, Path(directory))
        try:
            yield tree
        finally:
            del os.environ["LOAD_TEST_STAMPS"]
            for process in tree.processes() if worker.process.poll() is None else []:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGTERM if process == tree.root else signal.SIGCONT)
            worker.process.wait(PATIENCE)


def enqueue_one(name: str, argument: str) -> None:
    """Enqueue a task of the load tests."""
    from load_tests import tasks

    getattr(tasks, name).enqueue(argument)


def session_of(pid: int) -> int | None:
    """Return the session of a process, None when it is gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(condition: Callable[[], object], what: str, within: float = PATIENCE) -> None:
    """Return when a condition holds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Not within {within:g} s: {what}.")
        time.sleep(0.002)
