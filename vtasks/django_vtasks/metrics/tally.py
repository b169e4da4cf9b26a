"""What this process has counted since it began, in plain dictionaries."""

import os
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

from django_vtasks.metrics.catalogue import (
    CLAIM,
    DURATION,
    GIVEN_UP,
    HISTOGRAM,
    LATENESS,
    PROCESSED,
    RESCUED,
    SETTLE,
    SUBMITTED,
    Family,
)

MOST = 1000
"""Pairs of task and queue in one family; what comes after these counts as OTHER."""
OTHER, UNKNOWN = "other", "unknown"
"""Stand for names beyond the limit, and for tasks that no worker could run."""
STATUSES = SUCCESS, FAILURE = "success", "failure"

type Labels = tuple[str, ...]
type Key = tuple[str, Labels]
"""A family's name, and the values of its labels."""
type Value = float | tuple[float, ...]
"""A number; of a histogram, how many fell into each bucket, and at the end the sum."""


class Count:
    """A number that grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def read(self) -> float:
        """Return the number."""
        return self.value

    def reset(self) -> None:
        """Begin anew."""
        self.value = 0


class Distribution:
    """How often a value fell between two bounds, and the sum of all."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.reset()

    def observe(self, value: float) -> None:
        """Count a value."""
        # As all counting here without a lock: a thread gives the interpreter away at calls of Python functions and at
        # the ends of loops only, so at none of these steps.
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def read(self) -> tuple[float, ...]:
        """Return the counts and the sum."""
        return (*self._counts, self._sum)

    def reset(self) -> None:
        """Begin anew."""
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0


class Cells[C: Count | Distribution](dict[Labels, C]):
    """The cells of a family, made when they are asked for."""

    def __init__(self, family: Family, make: Callable[[], C]) -> None:
        super().__init__()
        self.family = family
        self._make = make
        self._most = MOST * (len(STATUSES) if "status" in family.labels else 1)

    def __missing__(self, labels: Labels) -> C:
        if len(self) >= self._most:
            free = zip(self.family.labels, labels, strict=True)
            labels = tuple(OTHER if name in {"task_name", "queue"} else value for name, value in free)
        return self.setdefault(labels, self._make())  # another thread may have been faster


def _counts(family: Family) -> Cells[Count]:
    return Cells(family, Count)


def _distributions(family: Family) -> Cells[Distribution]:
    return Cells(family, lambda: Distribution(family.buckets))


submitted = _counts(SUBMITTED)
processed = _counts(PROCESSED)
durations = _distributions(DURATION)
claims = _distributions(CLAIM)
settlements = _distributions(SETTLE)
rescued = _counts(RESCUED)
given_up = _counts(GIVEN_UP)
lateness = _distributions(LATENESS)

_ALL: tuple[Cells[Any], ...] = (
    submitted, processed, durations, claims, settlements, rescued, given_up, lateness,
)  # fmt: skip
assert all((cells.family.kind == HISTOGRAM) == bool(cells.family.buckets) for cells in _ALL)


class Runs:
    """The cells of one task in one queue."""

    __slots__ = ("duration", "failure", "success")

    def __init__(self, task: str, queue: str) -> None:
        self.success = processed[task, queue, SUCCESS]
        self.failure = processed[task, queue, FAILURE]
        self.duration = durations[task, queue]


class _RunsByTask(dict[tuple[str, str], Runs]):
    def __missing__(self, key: tuple[str, str]) -> Runs:
        runs = Runs(*key)
        return self.setdefault(key, runs) if len(self) < MOST else runs


runs = _RunsByTask()
"""By task and queue: one look-up for each task that ends."""


def values() -> Mapping[Key, Value]:
    """Return everything; may be called on any thread."""
    # list() of a dictionary's items is one step, in which no other thread adds any.
    return {(cells.family.name, labels): cell.read() for cells in _ALL for labels, cell in list(cells.items())}


def reset() -> None:
    """Begin anew; who keeps a cell may go on with it."""
    for cells in _ALL:
        for cell in cells.values():
            cell.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reset)  # what the parent has counted, the parent tells
