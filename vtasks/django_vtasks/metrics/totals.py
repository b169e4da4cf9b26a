"""The counts of all actors, dead ones too: what they add up to never goes back."""

import threading
from collections.abc import Iterable, Mapping

from django_vtasks.metrics import projects
from django_vtasks.metrics.projects import ADDED, ProjectFamily
from django_vtasks.metrics.snapshot import Snapshot
from django_vtasks.metrics.tally import Key, Value

type Incarnation = tuple[str, int]
"""An actor's name, and which of that name it is."""


class Totals:
    """Keeps the last word of each living incarnation, and the sum of those that have ended; for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Incarnation, dict[Key, Value]] = {}
        self._projects: dict[Incarnation, dict[str, ProjectFamily]] = {}
        self._retired: dict[Key, Value] = {}
        self._retired_projects: dict[str, ProjectFamily] = {}

    def note(self, name: str, incarnation: int, snapshot: Snapshot) -> None:
        """Take in what an actor says."""
        key = name, incarnation
        with self._lock:
            self._counts.setdefault(key, {}).update(snapshot.counts)
            self._projects.setdefault(key, {}).update(snapshot.project)

    def ended(self, name: str, incarnation: int) -> None:
        """Keep what an actor that has ended has counted, and forget what was true of it while it lived."""
        key = name, incarnation
        with self._lock:
            add(self._retired, self._counts.pop(key, {}))
            counted = {name: fam for name, fam in self._projects.pop(key, {}).items() if fam.kind in ADDED}
            _add_families(self._retired_projects, counted)

    def counts(self) -> Mapping[Key, Value]:
        """Return the sums of what this package counts."""
        with self._lock:
            total = dict(self._retired)
            for counts in self._counts.values():
                add(total, counts)
        return total

    def project(self) -> Mapping[str, ProjectFamily]:
        """Return the project's own metrics by name; what does not add up has its actor for a label."""
        with self._lock:
            total = dict(self._retired_projects)
            for (actor, _), families in sorted(self._projects.items()):
                _add_families(total, {name: projects.of_actor(family, actor) for name, family in families.items()})
        return total


def add(total: dict[Key, Value], counts: Mapping[Key, Value]) -> None:
    """Add counts to a total."""
    for key, value in counts.items():
        total[key] = plus(total[key], value) if key in total else value


def plus(one: Value, other: Value) -> Value:
    """Return the sum of two numbers or of two histograms."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return tuple(a + b for a, b in zip(one, other, strict=True))
    assert not isinstance(one, tuple)
    assert not isinstance(other, tuple)
    return one + other


def summed(parts: Iterable[Mapping[Key, Value]]) -> dict[Key, Value]:
    """Return the sum of several counts."""
    total: dict[Key, Value] = {}
    for part in parts:
        add(total, part)
    return total


def _add_families(total: dict[str, ProjectFamily], families: Mapping[str, ProjectFamily]) -> None:
    for name, family in families.items():
        total[name] = projects.merged(total[name], family) if name in total else family
