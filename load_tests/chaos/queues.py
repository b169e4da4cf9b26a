"""From what the ledger says to what became of the calls to one queue: pure functions."""

from collections.abc import Sequence

from load_tests.chaos.ledger import Event

EVER = float("inf")
ANSWERS = frozenset({"accept", "same", "error"})
"""What the caller of an enqueue may learn."""


def accepted(events: Sequence[Event], queue: str, since: float = 0.0, until: float = EVER) -> dict[str, float]:
    """Return the keys that a feeder has enqueued to a queue in some time, each with the moment at which it is due."""
    found = {}
    for event in events:
        if event.kind == "accept" and since <= event.at < until:
            where, _, delay = event.note.rpartition(" ")
            if where == queue:
                found[event.key] = event.at + float(delay)
    return found


def ended(events: Sequence[Event], queue: str, since: float, until: float) -> int:
    """Return how many runs of calls to a queue ended in some time."""
    keys = accepted(events, queue)
    return sum(event.kind == "end" and event.key in keys and since <= event.at < until for event in events)


def waits(events: Sequence[Event], queue: str, since: float = 0.0, until: float = EVER) -> list[float]:
    """Return, sorted, for how long calls that were accepted in some time and were due waited for their start.

    One that has not started waits to the last event.
    """
    started: dict[str, float] = {}
    for event in events:
        if event.kind == "start":
            started.setdefault(event.key, event.at)
    last = events[-1].at if events else 0.0
    calls = accepted(events, queue, since, until)
    return sorted(max(0.0, started.get(key, last) - at) for key, at in calls.items())


def held_up(events: Sequence[Event], since: float, until: float, seconds: float = 1.0) -> int:
    """Return how many enqueues that were tried in some time failed, or took so many seconds or more."""
    tried: dict[str, float] = {}
    found = 0
    for event in events:
        if event.kind == "try" and since <= event.at < until:
            tried[event.key] = event.at
        elif event.kind in ANSWERS and event.key in tried:
            found += event.kind == "error" or event.at - tried[event.key] >= seconds
    return found


def took(events: Sequence[Event]) -> dict[str, float]:
    """Return how many seconds each enqueue took, whatever came of it."""
    tried: dict[str, float] = {}
    found = {}
    for event in events:
        if event.kind == "try":
            tried[event.key] = event.at
        elif event.kind in ANSWERS and event.key in tried:
            found[event.key] = event.at - tried[event.key]
    return found


def share(waits: Sequence[float], part: float) -> float:
    """Return what a part of sorted waits does not exceed; of none, that is 0."""
    return waits[min(int(len(waits) * part), len(waits) - 1)] if waits else 0.0
