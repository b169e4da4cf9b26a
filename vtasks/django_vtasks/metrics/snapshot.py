"""What an actor says of its counts: what has changed, as it stands, so that a message lost or doubled does no harm."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django_vtasks.metrics import projects, tally
from django_vtasks.metrics.projects import ProjectFamily
from django_vtasks.metrics.tally import Key, Value


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counts since the actor began, and families of the project's own registry by name."""

    counts: Mapping[Key, Value]
    project: Mapping[str, ProjectFamily]


class Taker:
    """Makes the snapshots of one process."""

    def __init__(
        self,
        counts: Callable[[], Mapping[Key, Value]] = tally.values,
        project: Callable[[], Mapping[str, ProjectFamily]] = projects.collect,
    ) -> None:
        self._counts = counts
        self._project = project
        self._told: dict[Key, Value] = {}
        self._told_project: dict[str, ProjectFamily] = {}

    def take(self, *, everything: bool = False, is_busy: bool = True) -> Snapshot | None:
        """Return what has changed since the last snapshot, or ``everything``; None when there is nothing to tell.

        The project's metrics, which take longer to read, are read when ours have changed or the actor ``is_busy``.
        """
        counts = self._counts()
        changed = counts if everything else {key: v for key, v in counts.items() if self._told.get(key) != v}
        self._told.update(changed)
        project: Mapping[str, ProjectFamily] = {}
        if changed or is_busy or everything:
            project = self._project()
            if not everything:
                project = {name: family for name, family in project.items() if self._told_project.get(name) != family}
            self._told_project.update(project)
        return Snapshot(changed, project) if changed or project else None
