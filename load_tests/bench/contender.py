"""What a contender declares, and where to find those that there are."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests import servers

CONCURRENCY = 100
BASELINE = "django_vtasks_320"
"""The contender whose figures are the unit of all goals."""
GOALS_ARE_OF = ("vtasks", BASELINE)

type Commands = list[list[str]]

NOT_THERE = "does not work on {}"
# What several do not have, in the words of their lines of results.
NO_ASYNC = {"noop": "runs no async def", "noop_two": "runs no async def"}
NO_SYNC = {"noop_sync": "runs no def"}
NO_BATCH = {"batch": "has no batches"}
NO_UNIQUE = {"storm": "has no unique tasks"}
NO_BULK = {"enqueue bulk/s": "enqueues one at a time"}
NO_SYNC_ENQUEUE = {"enqueue one/s": "enqueues on a loop only"}
NO_ASYNC_ENQUEUE = {
    "enqueue one async/s": "enqueues without a loop only",
    "enqueue 50 at a time/s": "enqueues without a loop only",
}


OF_SIGNALS = "receivers", "receivers_async"
"""The scenarios of those who send signals of their runs as Django says."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A task queue, and how to install it, start its workers and enqueue in it."""

    name: str
    module: str
    """In ``inside/``: its tasks, and the functions that enqueue them."""
    requirements: tuple[str, ...]
    """What pip installs; a path stands for this checkout."""
    distributions: tuple[str, ...]
    """Whose versions stand in each line of results, the contender's own first."""
    backends: Mapping[str, tuple[str, ...]]
    """The servers it works on, each with what must be installed besides."""
    promise: str
    """What becomes of a task whose process is killed, in the configuration that is measured."""
    worker: Callable[[int, int, str], Commands]
    """The commands that start this many processes of this concurrency for a queue; programs of its environment.

    Who takes no concurrency on the command line finds it in BENCH_CONCURRENCY.
    """
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Scenarios that it cannot take part in, and why."""
    takes_over: bool = False
    """Whether workers that are started anew run at once what the last have left, which ``give_back`` of the module may
    have put into the queue again."""
    signals: bool = False
    """Whether its module connects receivers to the signals that tell of a run."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """What its workers and its producer need in their environment."""

    @property
    def quickest(self) -> str:
        """The task that does nothing in the way it likes best."""
        return "noop_sync" if "noop" in self.lacks else "noop"

    def excuse(self, scenario: str, backend: str) -> str | None:
        """Return why it does not take part, None if it does."""
        if backend not in self.backends:
            return NOT_THERE.format(backend)
        if scenario in OF_SIGNALS and not self.signals:
            return "is compared without receivers of signals"
        return self.lacks.get(scenario)


def each_alone(command: list[str]) -> Callable[[int, int, str], Commands]:
    """Return the commands of a worker that is one process: as many as are asked for.

    ``{concurrency}``, ``{queue}``, ``{number}`` (of the process) and ``{port}`` (free, for each) in the command are
    filled in.
    """

    def commands(processes: int, concurrency: int, queue: str) -> Commands:
        return [
            [word.format(concurrency=concurrency, queue=queue, number=number, port=port) for word in command]
            for number, port in enumerate(free_ports(processes))
        ]

    return commands


def one_parent(command: list[str]) -> Callable[[int, int, str], Commands]:
    """Return the command of a worker that starts its processes itself: ``{processes}`` says how many.

    ``{port}`` is one that is free.
    """

    def commands(processes: int, concurrency: int, queue: str) -> Commands:
        (port,) = free_ports(1)
        return [[word.format(processes=processes, concurrency=concurrency, queue=queue, port=port) for word in command]]

    return commands


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens to, each another."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(servers.free_port())
    return list(ports)


def names() -> list[str]:
    """Return all contenders' names, this project's and the baseline's first."""
    from load_tests.bench import contenders

    found = [module.name for module in pkgutil.iter_modules(contenders.__path__)]
    return sorted(found, key=lambda name: (name != "vtasks", name != BASELINE, name))


def load(name: str) -> Contender:
    """Return the contender of a name."""
    contender: Contender = importlib.import_module(f"load_tests.bench.contenders.{name}").CONTENDER
    return contender
