"""Statistics of lines of results: medians of what is valid, and ratios of what was measured in the same repetition."""

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from load_tests.bench.contender import BASELINE
from load_tests.bench.results import Line


class Key(NamedTuple):
    """What was measured where."""

    backend: str
    scenario: str
    figure: str


@dataclass(frozen=True)
class Spread:
    """Some values of the same figure; None for those that never came to be."""

    values: tuple[float | None, ...]

    @property
    def median(self) -> float | None:
        """Return the median; None when most of the values are."""
        measured = [float("inf") if value is None else value for value in self.values]
        median = statistics.median(measured)
        return None if median == float("inf") else median

    @property
    def low(self) -> float | None:
        """Return the least."""
        return min((value for value in self.values if value is not None), default=None)

    @property
    def high(self) -> float | None:
        """Return the greatest; None when something never came to be."""
        return None if None in self.values else max(value for value in self.values if value is not None)


class Summary:
    """All that the lines say."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.lines = list(lines)
        self._values: dict[tuple[Key, str], dict[tuple[str, int], float | None]] = defaultdict(dict)
        for line in self.lines:
            if line.is_valid:
                for figure, value in figures(line).items():
                    key = Key(line.backend, line.scenario, figure)
                    self._values[key, line.contender][line.run, line.repetition] = value

    def spread(self, key: Key, contender: str) -> Spread | None:
        """Return the values of a figure."""
        values = self._values.get((key, contender))
        return Spread(tuple(values.values())) if values else None

    def ratio(self, key: Key, contender: str, baseline: str = BASELINE) -> Spread | None:
        """Return the ratios to a baseline, of those repetitions that both have."""
        ours, theirs = self._values.get((key, contender), {}), self._values.get((key, baseline), {})
        ratios = [
            ours_then / theirs_then
            for when, ours_then in ours.items()
            if ours_then is not None and (theirs_then := theirs.get(when))
        ]
        return Spread(tuple(ratios)) if ratios else None

    def places(self) -> list[tuple[str, str]]:
        """Return the backends with their scenarios, in the order of the lines."""
        return list(dict.fromkeys((line.backend, line.scenario) for line in self.lines))

    def contenders(self, backend: str, scenario: str) -> list[str]:
        """Return who has valid values there, in the order of the lines."""
        found = (line for line in self.lines if (line.backend, line.scenario) == (backend, scenario) and line.is_valid)
        return sorted(dict.fromkeys(line.contender for line in found))

    def figures(self, backend: str, scenario: str) -> list[str]:
        """Return the names of all figures there, what was measured before what it cost."""
        lines = [line for line in self.lines if (line.backend, line.scenario) == (backend, scenario) and line.is_valid]
        names = list(dict.fromkeys(name for line in lines for name in line.figures))
        return names + [name for name in dict.fromkeys(n for line in lines for n in figures(line)) if name not in names]

    def unmeasured(self) -> list[Line]:
        """Return the lines of those that could not be measured, or whose tasks did not run exactly once."""
        return [line for line in self.lines if not line.is_valid]


def figures(line: Line) -> dict[str, float | None]:
    """Return a line's figures, with what they cost."""
    costs = {
        "worker CPU ms/task": line.worker_ms,
        "server CPU ms/task": line.server_ms,
        "PSS MB": line.pss if "MB PSS" not in line.figures else None,
        "connections": line.connections,
    }
    return line.figures | {name: value for name, value in costs.items() if value is not None}


def number(value: float | None) -> str:
    """Return a value in three digits, or in whole ones."""
    if value is None:
        return "never"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits
