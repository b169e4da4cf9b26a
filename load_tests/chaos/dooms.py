"""Tasks that bring doom on their actors: how often each does, and for how long an actor lives on with it."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from load_tests.chaos import processes
from load_tests.chaos.account import Fault
from load_tests.chaos.ledger import Event, Ledger
from load_tests.chaos.run import Run

RESCUES = 1
RESCUED = {"VTASKS_MAX_RESCUES": str(RESCUES)}
"""The environment in which a task may take one actor along, and is given up with the second."""
LOOK_EVERY = 0.05


class Lives:
    """For how many seconds each actor has lived on since doom began in it."""

    def __init__(self) -> None:
        self.seconds: dict[int, float] = {}
        self._gone: set[int] = set()

    def look(self, events: Iterable[Event], now: float, is_gone: Callable[[int], bool]) -> None:
        """Take in who is there and who is not; the first doom in an actor is the one that counts."""
        began: dict[int, float] = {}
        for event in events:
            if event.kind == "doom":
                began.setdefault(event.pid, event.at)
        for pid, at in began.items():
            if pid not in self._gone:
                self.seconds[pid] = now - at
                if is_gone(pid):
                    self._gone.add(pid)

    @property
    def longest(self) -> float:
        """Return the longest of these times."""
        return max(self.seconds.values(), default=0.0)


def bring(run: Run, ways: tuple[str, ...], every: float, *, name: str = "doom", within: float = 0.5) -> Lives:
    """Enqueue tasks into the first queue that bring doom, until all are given up, none too late."""
    from load_tests.chaos import tasks

    task: Any = getattr(tasks, name).using(queue_name=run.scenario.queues[0])
    with _lives_noted(run) as lives:
        for number, _ in enumerate(run.beats(0.5 * every, 1.5 * every)):
            run.doomed.add(task.enqueue(ways[number % len(ways)]).id)
        run.until(run.is_doom_done, "the doomed are given up", 90.0)
    _excuse_deaths(run, within)
    judge_times(run)
    return lives


def judge_times(run: Run) -> None:
    """Hold how many actors each of the doomed has taken along against how often a task is rescued."""
    most = max(times(run.ledger.events()).values(), default=0)
    run.facts["actors that one task took along"] = most
    run.expect(most <= RESCUES + 1, f"one task took {most} actors along before it was given up")


def times(events: Iterable[Event]) -> Counter[str]:
    """Return how often each of the doomed has begun."""
    return Counter(event.id for event in events if event.kind == "doom")


def deaths(run: Run) -> int:
    """Return how many actors doom has met."""
    return len({event.pid for event in run.ledger.events() if event.kind == "doom"})


def _excuse_deaths(run: Run, within: float) -> None:
    """Note as deaths what the doomed did to their actors."""
    known = {fault.pids for fault in run.faults}
    for event in run.ledger.events():
        pids = frozenset([event.pid])
        if event.kind == "doom" and pids not in known:
            run.faults.append(Fault("death", event.at, event.at + within, pids, before=1.0))


@contextlib.contextmanager
def _lives_noted(run: Run) -> Iterator[Lives]:
    lives, over = Lives(), threading.Event()
    ledger = Ledger(run.ledger.directory)  # a reader is of one thread

    def watch() -> None:
        while not over.wait(LOOK_EVERY):
            lives.look(ledger.events(), time.monotonic(), processes.is_gone)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lives
    finally:
        over.set()
        watcher.join()
