"""The frozen recipe from which every start of a child begins."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from vtasks_supervisor.actor import Actor
from vtasks_supervisor.errors import SpecError
from vtasks_supervisor.policy import Backoff, Restart


class Place(Enum):
    """Where a child runs."""

    PROCESS = "process"
    TASK = "task"


class Notes(NamedTuple):
    """The size of a child's Recorder."""

    entries: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One place in the tree and how its child is made, watched and ended; durations are in seconds.

    ``make`` is called where the child runs; for a process it travels by cloudpickle, after ``setup`` has been called
    there. Stages start in ascending order and stop in descending order.
    """

    name: str
    make: Callable[[], Actor[Any]]
    place: Place = Place.PROCESS
    setup: Callable[[], object] | None = None
    """An importable function that readies a process, before ``make`` is unpickled."""
    title: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    stage: int = 0
    restart: Restart = Restart.PERMANENT
    backoff: Backoff | None = None
    """When it is started again, if not as the tree's policy says."""
    significant: bool = False
    """The tree ends when the last of its significant children has ended for good."""
    start_timeout: float = 60.0
    liveness_timeout: float = 30.0
    stop_timeout: float = 25.0
    dump_grace: float = 2.0
    """What a hung child has to write its stacks before it is killed."""
    max_work: int | None = None
    max_lifetime: float | None = None
    max_memory: int | None = None
    """Bytes that belong to the child's process alone (USS)."""
    notes: Notes | None = None
    """What the child's recorder holds; None for no recorder."""

    def __post_init__(self) -> None:
        """Refuse what can only be a mistake."""
        if not self.name:
            raise SpecError("A child needs a name.")
        for limit in ("start_timeout", "liveness_timeout", "stop_timeout", "max_work", "max_lifetime", "max_memory"):
            value = getattr(self, limit)
            if value is not None and value <= 0:
                raise SpecError(f"Child {self.name!r}: {limit} must be positive, not {value!r}.")
