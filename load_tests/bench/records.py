"""What the recorders of a run have written: how many, how quickly, and whether each exactly once."""

import array
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

RECORD = 16


class Run(NamedTuple):
    """That a task has begun: its number, the monotonic time, and the process."""

    number: int
    at: float
    pid: int


class Exactness(NamedTuple):
    """Tasks that never ran, and runs that were too many."""

    missing: int | None
    """None: unknown, as the time was too short for all of them."""
    doubled: int


def written(directory: Path) -> int:
    """Return how many runs have been written so far."""
    return sum(path.stat().st_size for path in directory.glob("*.runs")) // RECORD


def read(directory: Path) -> list[Run]:
    """Return all runs, the earliest first."""
    runs: list[Run] = []
    for path in directory.glob("*.runs"):
        numbers = array.array("d", path.read_bytes())
        runs += map(Run, map(int, numbers[::2]), numbers[1::2], [int(path.stem)] * (len(numbers) // 2))
    return sorted(runs, key=lambda run: run.at)


def exactness(runs: Collection[Run], expected: Collection[int]) -> Exactness:
    """Compare what ran with what should have."""
    counts = Counter(run.number for run in runs)
    wanted = set(expected)
    missing = len(wanted - counts.keys())
    doubled = sum(times - (number in wanted) for number, times in counts.items())
    return Exactness(missing, doubled)


def rate(runs: list[Run]) -> float:
    """Return how many tasks began in a second, from the first to the last."""
    if len(runs) < 2:  # noqa: PLR2004 - a rate is between two
        raise ValueError("A rate takes two runs at least.")
    return (len(runs) - 1) / max(runs[-1].at - runs[0].at, 1e-9)


def waits(runs: Collection[Run], first: int, sent: list[float]) -> list[float]:
    """Return the milliseconds from each enqueue to its run, sorted."""
    return sorted(1000 * (run.at - sent[run.number - first]) for run in runs if 0 <= run.number - first < len(sent))
