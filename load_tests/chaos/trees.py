"""Two versions of this package's code at work on one store, as while one is rolled out, and rolled back."""

import signal
from collections.abc import Collection
from typing import NamedTuple

from load_tests.chaos.ledger import ADDED, Event
from load_tests.chaos.run import CODE, LEASE, Run
from load_tests.chaos.scenario import Bounds, scenario
from tests.integration.trees import Change, plant

FORTH = "tasks of new producers run by old workers"
BACK = "tasks of old producers run by new workers"
HANDED_ON = "tasks cut off in old workers and run by new ones"
HANDED_BACK = "tasks cut off in new workers and run by old ones"
SET = "second"
TAKES_OVER = LEASE * 4 / 3 + 3.0
SLOTS = 32
"""Of two workers: when so many long tasks run, both are at work."""
HEADERS = "    headers: dict[str, str] = {}\n"
RESCUES = "            max_rescues=self._max_rescues,\n"
NEWER = (
    Change("django_vtasks/envelope.py", HEADERS, f"{HEADERS}    {ADDED}: str | None = None\n"),
    Change("django_vtasks/publishing.py", RESCUES, f"{RESCUES}            {ADDED}={SET!r},\n"),
)
"""A payload with one more field, which producers set."""


class Ends(NamedTuple):
    """The ids of tasks, by who has enqueued them and who has told the store of their end."""

    of_new: set[str]
    by_old: set[str]
    by_new: set[str]


@scenario(58, bites=(FORTH, BACK, HANDED_ON, HANDED_BACK), bounds=Bounds(again=TAKES_OVER), workers=2, rate=50.0,
          seconds=4.0)  # fmt: skip
def two_trees(run: Run) -> None:
    """Roll out a version whose payloads have a field more, and roll it back, beside producers of both: none is lost."""
    newer = plant(run.directory / "newer", *NEWER)
    producer = run.feed(run.scenario.rate, PYTHONPATH=newer)
    run.pass_time(run.seconds / 2)  # payloads that are new to all workers
    cut_off = _replace_workers(run, newer)
    run.pass_time(run.seconds)  # no worker is old, and one of the producers
    cut_off_again = _replace_workers(run, CODE)
    run.pass_time(run.seconds / 2)
    run.stop_feeding()
    run.until(run.is_quiet, "every task has ended", run.scenario.bounds.quiet)

    events = run.ledger.events()
    ends = _ends(events, producer.pid)
    run.bit(FORTH, len(ends.of_new & ends.by_old))
    run.bit(BACK, len(ends.by_new - ends.of_new))
    run.bit(HANDED_ON, len(_unfinished(events, cut_off) & ends.by_new))
    run.bit(HANDED_BACK, len(_unfinished(events, cut_off_again) & ends.by_old))
    wrong = [e.id for e in events if e.kind == "seen" and e.note != (SET if e.id in ends.of_new else "None")]
    run.expect(not wrong, f"new workers found in the new field what producers had not set: {wrong[:5]}")


def _replace_workers(run: Run, tree: str) -> set[int]:
    """Start workers of a tree for those that there are: one is told to end, one is lost; return whom death has met."""
    first, last = (worker for worker in run.workers if worker not in run.ending)
    run.worker(PYTHONPATH=tree)
    run.occupy(4, 0.5)
    actor = run.chance.choice([*run.actors(first).values(), *run.actors(last).values()])
    run.kill(actor)
    run.pass_time(run.chance.uniform(0.5, 1.5))
    run.tell(first, signal.SIGTERM, within=run.scenario.bounds.drain, spares=True)
    run.worker(PYTHONPATH=tree)
    run.occupy(SLOTS, 1.5)
    run.kill_worker(last)
    lost = run.faults[-1].pids or frozenset()
    run.pass_time(TAKES_OVER)
    return {actor, *lost}


def _ends(events: Collection[Event], producer: int) -> Ends:
    done = {event.id for event in events if event.kind == "settled" and event.note == "ack"}
    seen = {event.id for event in events if event.kind == "seen"}
    of_new = {event.id for event in events if event.kind == "accept" and event.pid == producer}
    return Ends(of_new, done - seen, done & seen)


def _unfinished(events: Collection[Event], pids: Collection[int]) -> set[str]:
    """Return the ids of what these processes have begun and not ended."""
    ended = {(event.key, event.pid) for event in events if event.kind == "end"}
    return {e.id for e in events if e.kind == "start" and e.pid in pids and (e.key, e.pid) not in ended}
