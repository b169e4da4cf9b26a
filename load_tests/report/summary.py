"""Statistics of lines of results: medians of what is valid, and ratios of what was measured in the same repetition."""

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

from load_tests.bench.contender import BASELINE, NOT_THERE
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


class Setting(NamedTuple):
    """What figures depend on: those of two settings are never put into one median."""

    machine: str
    commit: str
    disk: str

    @classmethod
    def of(cls, line: Line) -> Self:
        """Return that of a line."""
        machine = ", ".join(f"{name} {value}" for name, value in line.machine.items())
        return cls(machine, f"commit {line.commit}", "waiting for the disk" if line.durable else "no waiting for disks")


class Summary:
    """All that the lines of one setting say."""

    def __init__(self, lines: Iterable[Line], label: str = "", slug: str = "") -> None:
        self.lines = list(lines)
        self.label = label
        """What distinguishes the setting from others of the same report."""
        self.slug = slug
        self._values: dict[tuple[Key, str], dict[tuple[str, int | None], float | None]] = defaultdict(dict)
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
        return sorted({line.contender for line in self._valid(backend, scenario)})

    def measured(self, backend: str, scenario: str) -> list[str]:
        """Return the names of the figures there that the scenario is about."""
        return list(dict.fromkeys(name for line in self._valid(backend, scenario) for name in line.figures))

    def figures(self, backend: str, scenario: str) -> list[str]:
        """Return the names of all figures there, what was measured before what it cost."""
        costs = (name for line in self._valid(backend, scenario) for name in figures(line))
        return list(dict.fromkeys([*self.measured(backend, scenario), *costs]))

    def _valid(self, backend: str, scenario: str) -> list[Line]:
        return [line for line in self.lines if (line.backend, line.scenario) == (backend, scenario) and line.is_valid]

    def attempts(self, backend: str, scenario: str, contender: str) -> tuple[int, int]:
        """Return how many of how many repetitions are valid."""
        lines = [
            line
            for line in self.lines
            if (line.backend, line.scenario, line.contender) == (backend, scenario, contender)
        ]
        return sum(line.is_valid for line in lines), sum(not line.skipped for line in lines)

    def excuses(self, backend: str, scenario: str) -> dict[str, str]:
        """Return why contenders that work on a backend have no part in a scenario."""
        return {
            line.contender: line.skipped
            for line in self.lines
            if line.skipped not in {None, NOT_THERE.format(backend)}
            and (line.backend, line.scenario) == (backend, scenario)
        }

    def unmeasured(self) -> list[Line]:
        """Return the lines of what could not be measured, or where not each task is known to have run exactly once."""
        return [line for line in self.lines if not line.is_valid or line.is_cut_short]


def divide(lines: Iterable[Line]) -> list[Summary]:
    """Return a summary for each setting that there is."""
    settings: dict[Setting, list[Line]] = defaultdict(list)
    for line in lines:
        settings[Setting.of(line)].append(line)
    varied = [len(set(parts)) > 1 for parts in zip(*settings, strict=True)]
    return [
        Summary(
            some,
            label=", ".join(part for part, varies in zip(setting, varied, strict=True) if varies),
            slug=f"-{number}" if len(settings) > 1 else "",
        )
        for number, (setting, some) in enumerate(settings.items(), 1)
    ]


def figures(line: Line) -> dict[str, float | None]:
    """Return a line's figures, with what they cost."""
    costs = {
        "worker CPU ms/task": line.worker_ms,
        "server CPU ms/task": line.server_ms,
        "PSS MB": line.pss if "MB PSS" not in line.figures else None,
        "connections": line.connections,
    }
    return line.figures | {name: value for name, value in costs.items() if value is not None}
