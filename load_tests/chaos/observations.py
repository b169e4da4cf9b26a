"""What has come of a run: counts, problems, figures, and what stands in its store."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Any

from django.db import close_old_connections

from load_tests.chaos import account
from load_tests.chaos.grounds import ValkeyGround
from load_tests.chaos.ledger import Ledger
from tests.integration.probes import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from load_tests.chaos.account import Fault
    from load_tests.chaos.ground import Ground
    from load_tests.chaos.scenario import Scenario
    from tests.integration.stores import Store  # of models, which Django must be set up for
    from tests.integration.workers import WorkerProcess


class Observations:
    """What is noted of a run.

    ``bites`` counts what the faults have met, ``problems`` what the scenario finds wrong by itself.
    """

    def __init__(self, scenario: Scenario, ground: Ground, directory: Path) -> None:
        self.scenario = scenario
        self.ground = ground
        self.directory = directory
        self.ledger = Ledger(directory / "ledger")
        self.workers: list[WorkerProcess] = []
        self.faults: list[Fault] = []
        self.healed: list[float] = []
        """When outages ended."""
        self.bites: Counter[str] = Counter(dict.fromkeys(scenario.bites, 0))
        self.problems: list[str] = []
        self.doomed: set[str] = set()
        """The ids of tasks that must end in the failed list."""
        self.facts: dict[str, float] = {}
        self.recoveries: list[float] = []
        """Seconds of recoveries that the scenario itself has measured."""
        self.usual = 0.0
        """How many runs end per second before anything happens."""
        self.usual_of: dict[str, float] = {}
        """How many of each queue do."""

    def bit(self, what: str, times: int = 1) -> None:
        """Count what a fault has met."""
        self.bites[what] += times

    def expect(self, holds: object, problem: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.problems.append(problem)

    def until(self, probe: Any, what: str, within: float = 20.0) -> bool:
        """Wait until something is so; note a problem when it is not in time."""
        try:
            eventually(probe, what, within)
        except AssertionError as error:
            self.problems.append(str(error))
            return False
        return True

    def waits(self, since: float = 0.0, until: float = float("inf")) -> list[float]:
        """Return, sorted, for how long calls accepted in a time waited for their start."""
        accepted = {event.key: event.at for event in self.ledger.events() if event.kind == "accept"}
        started: dict[str, float] = {}
        for event in self.ledger.events():
            if event.kind == "start":
                started.setdefault(event.key, event.at)
        spans = ((at, started[key]) for key, at in accepted.items() if since <= at < until and key in started)
        return sorted(max(0.0, start - at) for at, start in spans)

    def comeback(self, healed: float) -> float | None:
        """Return how many seconds after an outage each queue was back at its usual rate; None: one of them is not."""
        events = self.ledger.events()
        following = min((fault.began for fault in self.faults if fault.began > healed), default=inf)
        part = account.part_asked(events, self.usual, healed, following)  # what is not asked for need not end
        backs = [
            account.comeback(account.of_queue(events, queue), healed, part * usual)
            for queue, usual in self.usual_of.items()
        ]
        return None if None in backs else max(filter(None, backs), default=0.0)

    def is_back(self) -> bool:
        """Tell whether each queue is back at its usual rate after the last outage."""
        return self.comeback(self.healed[-1]) is not None

    def said(self, text: str) -> int:
        """Return how often the workers have said something."""
        return sum(worker.log.count(text) for worker in self.workers)

    def ended(self) -> int:
        """Return how many runs have ended so far."""
        return self.ledger.count("end")

    def is_doom_done(self) -> bool:
        """Tell whether all that must fail for good has."""
        return self.doomed <= {entry.id for entry in self.broker.failed(10_000)}

    def is_quiet(self) -> bool:
        """Tell whether no task is left in the store."""
        try:
            close_old_connections()
            return self.store.size() == 0
        except Exception:  # noqa: BLE001 - it may still be on its way back
            return False

    @property
    def store(self) -> Store:
        """What stands in the store."""
        from tests.integration.stores import Tables, ValkeyStore

        return ValkeyStore(self.ground.url) if isinstance(self.ground, ValkeyGround) else Tables("default")

    @property
    def backend(self) -> Any:
        """The backend of this process, which reaches the store directly."""
        from django.tasks import task_backends

        return task_backends["default"]

    @property
    def broker(self) -> Any:
        """The broker of this process, on a connection that lives."""
        close_old_connections()
        return self.backend.broker
