"""What an actor says of its counts: what has changed, as it stands, so that a message lost or doubled does no harm."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from django_vtasks.metrics import projects, tally
from django_vtasks.metrics.projects import ProjectFamily
from django_vtasks.metrics.tally import Key, Value


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counts since the actor began, and families of the project's own registry by name."""

    counts: Mapping[Key, Value] = field(default_factory=dict)
    project: Mapping[str, ProjectFamily] = field(default_factory=dict)


class Changes[K, V]:
    """What ``read`` returns, but for what it has returned before."""

    def __init__(self, read: Callable[[], Mapping[K, V]]) -> None:
        self._read = read
        self._told: dict[K, V] = {}

    def take(self, *, everything: bool = False) -> dict[K, V]:
        """Return what has changed since the last time, or ``everything``."""
        now = self._read()
        changed = {key: value for key, value in now.items() if everything or self._told.get(key) != value}
        self._told.update(changed)
        return changed


def of_counts() -> Changes[Key, Value]:
    """Return the changes of what this process counts."""
    return Changes(tally.values)


def of_project() -> Changes[str, ProjectFamily]:
    """Return the changes of the project's metrics in this process."""
    return Changes(projects.collect)
