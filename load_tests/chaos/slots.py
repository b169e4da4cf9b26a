"""From what the ledger says to which slots of a schedule became tasks: pure functions."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from load_tests.chaos.ledger import Event


class Slots(NamedTuple):
    """The slots, in seconds since the epoch, whose tasks have run, each with the moment at which it was enqueued."""

    enqueued: dict[float, float]
    doubled: list[float]
    """Those of which more than one task has run."""
    unknown: list[str]
    """The ids of tasks that have run and that no scheduler has made."""


def of_entry(events: Sequence[Event], entry: str) -> Slots:
    """Return the slots of an entry; each of its tasks is a call of its own, whose key begins with the entry's name.

    A scheduler may make several tasks for a slot, one after the other, if it does not know what the store has taken in;
    one of them may run.
    """
    made = {event.id: event for event in events if event.kind == "slot" and event.key == entry}
    ran = {event.id for event in events if event.kind == "start" and event.key.startswith(f"{entry} ")}
    found = sorted((float(made[task_id].note), made[task_id].at) for task_id in ran if task_id in made)
    times = Counter(slot for slot, _ in found)
    return Slots(dict(found), sorted(slot for slot, count in times.items() if count > 1), sorted(ran - made.keys()))
