"""What a scenario is: what happens, to which stores, what must have been hit, and what must hold afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from load_tests.chaos import needs

if TYPE_CHECKING:
    from pathlib import Path

    from load_tests.chaos.ground import Ground
    from load_tests.chaos.run import Run

EVERYWHERE = frozenset({"sqlite", "postgres", "mariadb", "valkey"})
KILLED = "running tasks killed"

type Inject = Callable[["Run"], None]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What must hold; seconds, and numbers of tasks. None: nothing is promised."""

    again: float | None = None
    """From the death of an actor until its tasks run again."""
    back: float | None = None
    """From the end of an outage until tasks end at nine tenths of their usual rate."""
    quiet: float = 40.0
    """From the end of the feed until no task is left."""
    answer: float | None = 12.0
    """Until a caller knows what became of its enqueue, on stores of which nothing shorter is promised."""
    drain: float = 27.0
    """Until a worker that is told to end has ended."""
    namesakes: int = 1
    """Processes that have the same number, on hosts of their own."""
    loses: bool = False
    """Whether the store may lose what it had acknowledged."""


ACTORS = ("--processes", "2", "--concurrency", "8")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """``faults`` are numbers of the list of faults; ``bites`` names what must not be zero at the end."""

    name: str
    faults: tuple[int, ...]
    sentence: str
    inject: Inject
    bites: tuple[str, ...]
    stores: frozenset[str] = EVERYWHERE
    bounds: Bounds = Bounds()
    seconds: float = 12.0
    """How long it goes on, unless the command line says."""
    rate: float = 100.0
    """Tasks per second; 0 is none, and the scenario feeds what it needs."""
    workers: int = 1
    options: tuple[str, ...] = ACTORS
    """Of the workers' command line."""
    queues: tuple[str, ...] = ("default",)
    ground: Callable[[Path], Ground] | None = None
    """What makes the store, if it is not the usual one of its kind."""
    disk: str | None = None
    """The size of a disk of its own that the store is on."""
    by_line: bool = False
    """Whether the workers, and they alone, reach the store over a line."""
    needs: tuple[str, ...] = ()
    """What it takes beyond servers, of the module needs."""
    environment: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def lacking(self) -> list[str]:
        """Return what it takes and this machine has not."""
        return needs.lacking((*self.needs, *((needs.ADMIN, needs.MOUNT) if self.disk else ())))

    @property
    def slots(self) -> int:
        """Return how many tasks one process may run at once."""
        return int(self.options[self.options.index("--concurrency") + 1])


SCENARIOS: dict[str, Scenario] = {}


def scenario(*faults: int, **options: Any) -> Callable[[Inject], Inject]:
    """Make a function, which does what happens, a scenario that is named like it; the options are its fields."""

    def register(inject: Inject) -> Inject:
        assert inject.__doc__ is not None
        name = inject.__name__.replace("_", "-")
        assert name not in SCENARIOS
        sentence = inject.__doc__.splitlines()[0]
        SCENARIOS[name] = Scenario(name=name, faults=faults, sentence=sentence, inject=inject, **options)
        return inject

    return register
