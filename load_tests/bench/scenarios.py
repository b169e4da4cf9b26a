"""What is measured, one function a scenario; the count of those that are paced makes them last some seconds."""

from collections.abc import Callable
from dataclasses import dataclass

from load_tests.bench import records
from load_tests.bench.bout import Bout, Costs, costs

type Figures = dict[str, float | None]


@dataclass
class Measurement:
    """What a bout has shown."""

    figures: Figures
    count: int
    exactness: records.Exactness
    costs: Costs | None = None
    pss: float | None = None
    processes: int | None = None
    connections: int | None = None


@dataclass(frozen=True)
class Scenario:
    """A way to measure."""

    name: str
    measure: Callable[[Bout, int], Measurement]
    paced: "Drain | None" = None
    """What to time beforehand to know how many tasks take some seconds."""
    most: int = 500_000


@dataclass(frozen=True)
class Drain:
    """Let workers loose on a full queue: from the first start of a task to the last."""

    task: str
    processes: int = 1
    queue: str = "default"
    unit: str = "tasks/s"

    def __call__(self, bout: Bout, count: int) -> Measurement:
        """Drain ``count`` tasks."""
        bout.fill(self.task, count)
        return self.run(bout, count)

    def run(self, bout: Bout, count: int) -> Measurement:
        """Drain the ``count`` tasks that wait."""
        workers = bout.start(self.processes, queue=self.queue)
        bout.wait_for(1)
        before = bout.sample()
        bout.wait_for(count)
        after = bout.sample()
        connections = bout.count_connections()
        pss, processes = workers.pss()
        runs, exactness = bout.end(range(count))
        cost = costs(before, after)
        figures: Figures = {self.unit: records.rate(runs)}
        return Measurement(figures, len(runs), exactness, cost, pss, processes, connections)
