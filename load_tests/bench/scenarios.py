"""What is measured, one function a scenario; the count of those that are paced makes them last some seconds."""

from collections.abc import Callable
from dataclasses import dataclass

from load_tests.bench import records
from load_tests.bench.bout import Bout, Costs, costs
from load_tests.bench.workers import Workers

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

    task: str | None = None
    """None: that which does nothing in the way that the contender likes best."""
    processes: int = 1
    queue: str = "default"
    unit: str = "tasks/s"
    receivers: str = ""
    """The kind of what is connected to the signals that tell of a run: ``plain``, ``awaited``; or nothing is."""

    def __call__(self, bout: Bout, count: int) -> Measurement:
        """Drain ``count`` tasks; of who takes over, what was not settled runs again, and is doubled."""
        workers = self.begin(bout, count)
        bout.wait_for(1)
        before = bout.sample()
        bout.wait_for(count)
        after = bout.sample()
        connections = bout.count_connections()
        pss, processes = workers.pss()
        runs, exactness = bout.end(range(count))
        if bout.contender.takes_over and not any(exactness):
            exactness = exactness._replace(doubled=self._unsettled(bout, count))
        cost = costs(before, after)
        figures: Figures = {self.unit: records.rate(runs)}
        return Measurement(figures, len(runs), exactness, cost, pss, processes, connections)

    def begin(self, bout: Bout, count: int, first: int = 0) -> Workers:
        """Fill the queue, and let workers loose."""
        bout.fill(self.task or bout.contender.quickest, count, first)
        return bout.start(self.processes, queue=self.queue, receivers=self.receivers)

    def _unsettled(self, bout: Bout, number: int) -> int:
        """Start workers anew beside one more task, of this number; return how many others begin once more."""
        bout.note_apart()
        bout.producer.ask("give_back", queue=self.queue)
        self.begin(bout, 1, first=number)
        bout.wait_until_begun(number)
        _, exactness = bout.end([number])
        return exactness.doubled
