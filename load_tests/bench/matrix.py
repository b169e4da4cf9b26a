"""Contenders × scenarios × repetitions, in turns: whatever the machine does meanwhile, all of them meet it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from load_tests.bench import environment, machine, stores
from load_tests.bench.bout import Bout
from load_tests.bench.contender import CONCURRENCY, GOALS_ARE_OF, Contender
from load_tests.bench.results import Line
from load_tests.bench.scenarios import Drain, Scenario
from load_tests.bench.stores import Store

SECONDS = 4.0
"""How long a drain shall last."""
FIRST_TRY = 500
GROWTH = 20
LONG_ENOUGH = 0.8
CUT = 2.0
LEAST = 100
ROUNDS, LONGEST = 5, 5.0
"""How often all that run at once shall be others, unless that takes longer than so many seconds."""
LEAST_STEADY = 500
"""A hundredth of fewer says nothing."""
PATIENCE = 120.0
"""Seconds to wait for a calm machine before a measurement."""


@dataclass
class Matrix:
    """What is to be measured."""

    contenders: list[Contender]
    scenarios: list[Scenario]
    backends: list[str]
    repetitions: int
    seed: int
    durable: bool = False
    here: bool = False
    seconds: float = SECONDS
    count: int | None = None
    """How many tasks, instead of as many as take the seconds."""
    share: float = 1.0
    """What part of a measurement's size contenders get of which no goal speaks."""
    calm: float | None = None
    """How many cores others may use when a measurement begins; it waits a while for that."""
    say: Callable[[str], None] = lambda _: None
    _began: str = field(default_factory=machine.now)
    _rates: dict[tuple[str, str, Drain], float] = field(default_factory=dict)
    """What was found by calibration."""
    _pythons: dict[tuple[str, str], Path] = field(default_factory=dict)
    _versions: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.contenders) * len(self.scenarios) * len(self.backends) * self.repetitions

    def run(self) -> Iterator[Line]:
        """Yield a line for each measurement, and one for each that cannot be made."""
        for backend in self.backends:
            yield from self._run_on(backend)

    def _run_on(self, backend: str) -> Iterator[Line]:
        installed = []
        for contender in self.contenders:
            if backend in contender.backends and (error := self._install(contender, backend)):
                yield from (self._line(scenario, contender, backend, error=error) for scenario in self.scenarios)
                continue
            installed.append(contender)
        with stores.running(backend, durable=self.durable) as store:
            for scenario in self.scenarios:
                yield from self._run_scenario(scenario, installed, backend, store)

    def _run_scenario(
        self, scenario: Scenario, installed: list[Contender], backend: str, store: Store
    ) -> Iterator[Line]:
        counts: dict[str, int] = {}
        for contender in installed:
            if reason := contender.excuse(scenario.name, backend):
                yield self._line(scenario, contender, backend, skipped=reason)
                continue
            self.say(f"{scenario.name}: how quick is {contender.name}?")
            try:
                counts[contender.name] = self._count(scenario, contender, backend, store)
            except Exception as error:  # noqa: BLE001 - the others are still to be measured
                yield self._line(scenario, contender, backend, error=str(error))
        taking_part = [contender for contender in installed if contender.name in counts]
        for repetition in range(self.repetitions):
            yardstick = store.yardstick()
            for contender in _turned(taking_part, repetition):
                self.say(f"{scenario.name} on {backend}, {repetition + 1} of {self.repetitions}: {contender.name}")
                line = self._line(scenario, contender, backend, repetition=repetition, yardstick=yardstick)
                line.server = store.version
                if self.calm is not None:
                    machine.wait_until_calm(self.calm, PATIENCE)
                began = time.monotonic()
                try:
                    with self._bout(contender, backend, store) as bout:
                        _measure(line, scenario, bout, counts[contender.name])
                except Exception as error:  # noqa: BLE001 - as above
                    line.error = str(error)
                line.seconds = time.monotonic() - began
                yield line

    def _count(self, scenario: Scenario, contender: Contender, backend: str, store: Store) -> int:
        """Return how many tasks take the seconds that a measurement shall last."""
        share = self._share(contender)
        if scenario.paced is None:
            return round(max(LEAST_STEADY, share * scenario.most))
        if self.count is not None:
            return self.count
        quickest = Drain(contender.quickest)
        # Whose measurements are to be short, of those the rate of the simplest tasks is near enough.
        drain = replace(scenario.paced, task=scenario.paced.task or quickest.task) if share == 1.0 else quickest
        key = contender.name, backend, drain
        if key not in self._rates:
            self._rates[key] = self._rate(drain, scenario.most, contender, backend, store)
        rate = self._rates[key]
        several_rounds = min(ROUNDS * CONCURRENCY, rate * LONGEST)
        return int(round(max(LEAST, min(scenario.most, max(rate * self.seconds * share, several_rounds))), -2))

    def _rate(self, drain: Drain, most: int, contender: Contender, backend: str, store: Store) -> float:
        count = FIRST_TRY
        while True:
            with self._bout(contender, backend, store) as bout:
                rate, seconds = _pace(bout, drain, count)
            if seconds > LONG_ENOUGH or count * GROWTH > most:
                return rate
            count *= GROWTH

    def _share(self, contender: Contender) -> float:
        return 1.0 if contender.name in GOALS_ARE_OF else self.share

    def _bout(self, contender: Contender, backend: str, store: Store) -> Bout:
        python = self._pythons[contender.name, backend]
        return Bout(contender, python, store, seed=self.seed, share=self._share(contender))

    def _install(self, contender: Contender, backend: str) -> str | None:
        self.say(f"Installing {contender.name}")
        key = contender.name, backend
        try:
            self._pythons[key] = environment.python_of(contender, backend, here=self.here)
            self._versions[key] = environment.versions(self._pythons[key], contender)
        except environment.CannotInstallError as error:
            return f"cannot be installed: {error}"
        return None

    def _line(
        self,
        scenario: Scenario,
        contender: Contender,
        backend: str,
        *,
        repetition: int | None = None,
        skipped: str | None = None,
        error: str | None = None,
        yardstick: dict[str, float] | None = None,
    ) -> Line:
        return Line(
            scenario=scenario.name,
            contender=contender.name,
            backend=backend,
            run=self._began,
            repetition=repetition,
            durable=self.durable,
            share=self._share(contender),
            yardstick=yardstick or {},
            versions=self._versions.get((contender.name, backend), {}),
            commit=machine.commit(),
            seed=self.seed,
            machine=machine.describe(),
            time=machine.now(),
            skipped=skipped,
            error=error,
        )


def _pace(bout: Bout, drain: Drain, count: int) -> tuple[float, float]:
    """Return how many tasks a second run, and for how many seconds that was watched."""
    drain.begin(bout, count)
    bout.wait_for(1, strict=True)
    deadline = time.monotonic() + CUT
    while bout.written() < count and time.monotonic() < deadline:
        time.sleep(0.02)
    return bout.rate_so_far()


def _measure(line: Line, scenario: Scenario, bout: Bout, count: int) -> None:
    others = machine.Others()
    measured = scenario.measure(bout, count)
    line.figures, line.count = measured.figures, measured.count
    line.missing, line.doubled = measured.exactness
    if measured.costs:
        line.worker_ms, line.server_ms, line.foreign = measured.costs
    if line.foreign is None:  # whoever does not tell of a part of the time is told of all of it
        line.foreign = others.cores(bout.orphaned)
    line.pss, line.processes, line.connections = measured.pss, measured.processes, measured.connections


def _turned[T](things: list[T], by: int) -> list[T]:
    """Return the same things, begun elsewhere."""
    by %= max(1, len(things))
    return things[by:] + things[:by]
