"""The goals, as data, and whether figures meet them."""

import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from load_tests.bench.contender import BASELINE
from load_tests.bench.results import OWN
from load_tests.bench.stores import BACKENDS
from load_tests.figures import number
from load_tests.report.summary import Key, Spread, Summary

US = "vtasks"
NEAR_CEILING = 0.87 * 10_000
"""Tasks of 10 ms a second, of those that a hundred at a time can be: see docs/adr/0020-near-a-ceiling-is-enough.md."""


class Kind(Enum):
    """What a limit limits."""

    TIMES_AT_LEAST = "≥ {}×"
    TIMES_AT_MOST = "≤ {}×"
    AT_MOST = "≤ {}"


@dataclass(frozen=True)
class Goal:
    """How good a figure shall be: in itself, or as a multiple of the baseline's."""

    key: Key
    kind: Kind
    limit: float
    enough: float | None = None
    """What meets it as well: a figure with a ceiling is no multiple of a baseline that comes near it."""

    def __str__(self) -> str:
        return self.kind.value.format(f"{self.limit:g}") + ("" if self.enough is None else f" or ≥ {self.enough:,g}")


@dataclass(frozen=True)
class Verdict:
    """Whether a goal is met, and by what."""

    goal: Goal
    ours: Spread | None
    theirs: Spread | None = None
    ratio: Spread | None = None
    beside: str = ""
    """What else is to be known of the figure."""
    invalid: int = 0
    """How many repetitions of ours do not count, of how many."""
    of: int = 0

    @property
    def is_met(self) -> bool | None:
        """Tell whether it is met, None where it was not measured or there is nothing to compare with."""
        if self.invalid:
            return False
        if self.ours is None:
            return None
        enough = self.goal.enough
        if enough is not None and self.ours.median is not None and self.ours.median >= enough:
            return True
        value = self.ours if self.goal.kind is Kind.AT_MOST else self.ratio
        if value is None:
            return None
        if (median := value.median) is None:
            return False
        compare = operator.ge if self.goal.kind is Kind.TIMES_AT_LEAST else operator.le
        return bool(compare(median, self.goal.limit))

    def __str__(self) -> str:
        if self.invalid:
            return f"{NOT_MET} ({self.invalid} of {self.of} invalid)"
        if self.ours is None:
            return "not measured"
        return {True: "met", False: NOT_MET, None: "nothing to compare with"}[self.is_met]

    def row(self) -> list[str]:
        """Return the cells of a table."""
        key = self.goal.key
        ratio = "" if self.ratio is None else f"{number(self.ratio.median)}×"
        ours, theirs = ("" if values is None else spread(values) for values in (self.ours, self.theirs))
        return [key.backend, key.scenario, key.figure + self.beside, ours, theirs, ratio, str(self.goal), str(self)]


NOT_MET = "**not met**"
HEAD = ["backend", "scenario", "figure", "this package", "django-vtasks 3.2.0", "ratio", "goal", ""]


def judge(summary: Summary) -> Iterator[Verdict]:
    """Yield a verdict for each goal of a backend that this package was measured on."""
    backends = {line.backend for line in summary.lines if line.contender == US}
    for goal in GOALS:
        if goal.key.backend in backends:
            yield _verdict(summary, goal)


def _verdict(summary: Summary, goal: Goal) -> Verdict:
    ours, theirs = summary.spread(goal.key, US), summary.spread(goal.key, BASELINE)
    waiting = summary.spread(goal.key._replace(figure="waiting"), US)
    beside = f" with {number(waiting.median)} waiting" if waiting else ""
    valid, of = summary.attempts(goal.key.backend, goal.key.scenario, US)
    return Verdict(goal, ours, theirs, summary.ratio(goal.key, US), beside, invalid=of - valid, of=of)


def spread(values: Spread) -> str:
    """Return a median with minimum and maximum."""
    if len(values.values) == 1:
        return number(values.median)
    return f"{number(values.median)} ({number(values.low)}–{number(values.high)})"


def _goal(backend: str, scenario: str, figure: str, kind: Kind, limit: float) -> Goal:
    return Goal(Key(backend, scenario, figure), kind, limit)


GOALS = [
    _goal("valkey", "noop", "tasks/s", Kind.TIMES_AT_LEAST, 10),
    _goal("valkey", "noop_two", "tasks/s", Kind.TIMES_AT_LEAST, 14),
    _goal("valkey", "noop_sync", "tasks/s", Kind.TIMES_AT_LEAST, 5),
    replace(_goal("valkey", "sleep", "tasks/s", Kind.TIMES_AT_LEAST, 3.2), enough=NEAR_CEILING),
    _goal("valkey", "enqueue", "one/s", Kind.TIMES_AT_LEAST, 1.8),
    _goal("valkey", "enqueue", "one async/s", Kind.TIMES_AT_LEAST, 1.8),
    _goal("valkey", "enqueue", "50 at a time/s", Kind.TIMES_AT_LEAST, 8),
    _goal("valkey", "enqueue", "bulk/s", Kind.TIMES_AT_LEAST, 15),
    _goal("valkey", "latency", "p50 ms", Kind.TIMES_AT_MOST, 0.6),
    _goal("valkey", "latency", "p99 ms", Kind.TIMES_AT_MOST, 0.6),
    _goal("postgres", "noop", "tasks/s", Kind.TIMES_AT_LEAST, 50),
    _goal("postgres", "noop_two", "tasks/s", Kind.TIMES_AT_LEAST, 60),
    replace(_goal("postgres", "sleep", "tasks/s", Kind.TIMES_AT_LEAST, 25), enough=NEAR_CEILING),
    _goal("postgres", "latency", "p50 ms", Kind.AT_MOST, 4),
    _goal("postgres", "latency", "p99 ms", Kind.AT_MOST, 10),
    _goal("postgres", "enqueue", "one/s", Kind.TIMES_AT_LEAST, 1.5),
    _goal("postgres", "enqueue", "bulk/s", Kind.TIMES_AT_LEAST, 10),
    _goal("sqlite", "noop", "tasks/s", Kind.TIMES_AT_LEAST, 20),
    _goal("sqlite", "latency", "p50 ms", Kind.AT_MOST, 15),
    _goal("sqlite", "latency", "p99 ms", Kind.AT_MOST, 40),
    _goal("valkey", "batch", "members/s", Kind.TIMES_AT_LEAST, 0.8),
    _goal("valkey", "noop", "worker CPU ms/task", Kind.AT_MOST, 0.04),
    _goal("valkey", "idle", "% CPU", Kind.AT_MOST, 0.1),
    _goal("valkey", "memory", "connections/process", Kind.AT_MOST, 3),
    _goal("valkey", "memory", "MB PSS", Kind.AT_MOST, 170),
    *(_goal(backend, "restart", "ms to run again", Kind.AT_MOST, 200) for backend in BACKENDS),
    *(_goal(backend, f"{OWN}restart", "ms to ready", Kind.AT_MOST, 100) for backend in BACKENDS),
    *(_goal(backend, "backlog", "cost ratio", Kind.AT_MOST, 1.3) for backend in BACKENDS),
    *(_goal(backend, f"{OWN}claim_cost", "ratio", Kind.AT_MOST, 1.3) for backend in BACKENDS),
]
