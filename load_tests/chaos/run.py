"""One run of a scenario: what is done to those who take part, and when."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from load_tests.chaos.account import Fault
from load_tests.chaos.cast import CODE, LEASE, LIVENESS, ROOT, Cast
from load_tests.chaos.ground import Ground, Served
from load_tests.chaos.scenario import Scenario
from tests.integration.workers import WorkerProcess

__all__ = ["CODE", "LEASE", "LIVENESS", "ROOT", "Run"]

BEGUN = "· backend"
"""What stands in the first line of a worker's output."""


class Run(Cast):
    """What a scenario's function acts on."""

    def __init__(self, scenario: Scenario, ground: Ground, directory: Path, *, seed: int, seconds: float) -> None:
        super().__init__(scenario, ground, directory, seed)
        self.seed = seed
        self.chance = random.Random(seed)  # noqa: S311 - no secret
        self.seconds = seconds
        self.killed: set[WorkerProcess] = set()
        """Those that were ended without a word, and leave what they held to others."""
        self.told: set[WorkerProcess] = set()
        """Those that have ended because they were told to."""

    @property
    def ending(self) -> set[WorkerProcess]:
        """Return those that are expected to have ended."""
        return self.killed | self.told

    def beats(self, shortest: float, longest: float) -> Iterator[float]:
        """Yield again and again, after pauses that chance chooses, until the time for faults is over."""
        end = time.monotonic() + self.seconds
        while (pause := self.chance.uniform(shortest, longest)) < end - time.monotonic():
            self.pass_time(pause)
            yield time.monotonic()

    def pass_time(self, seconds: float) -> None:
        """Let the others work."""
        time.sleep(seconds)

    def kill(self, *pids: int) -> None:
        """End processes without a word."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)  # what it does next, it does not do after its death was noted
        now = time.monotonic()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.faults.append(Fault("kill", now, now, frozenset(pids)))

    def kill_worker(self, worker: WorkerProcess) -> None:
        """End all processes of a worker at once, as when its host goes."""
        pids = frozenset(process.pid for process in worker.processes())
        began = time.monotonic()
        worker.kill()
        self.killed.add(worker)
        self.faults.append(Fault("kill", began, time.monotonic(), pids, before=1.0))

    def tell(self, worker: WorkerProcess, *signals: signal.Signals, within: float, spares: bool = False) -> None:
        """Send signals to a worker, which must end with 0 in time; ``spares``: nothing may run again for it."""
        told, began, pids = ", ".join(number.name for number in signals), time.monotonic(), set[int]()
        for number in signals:
            pids |= {process.pid for process in worker.processes()}
            worker.send(number)
            self.pass_time(self.chance.uniform(0.0, 0.2))
        while worker.is_running and time.monotonic() < began + within:
            pids |= {process.pid for process in worker.processes()}
            self.pass_time(0.02)
        if worker.is_running:
            self.problems.append(f"a worker still runs {within:g} s after {told}")
            worker.kill()
        code = worker.process.returncode
        # Before the command has begun, a signal does what it does to any Python.
        self.expect(code == 0 or (code < 0 and BEGUN not in worker.log), f"a worker ended with {code} on {told}")
        self.facts["drain"] = max(self.facts.get("drain", 0.0), round(time.monotonic() - began, 2))
        self.told.add(worker)
        if not spares:
            self.faults.append(Fault("told", began, time.monotonic(), frozenset(pids)))

    def end(self, worker: WorkerProcess) -> None:
        """Tell a worker to end, as is done to all at the end of a run."""
        if worker.is_running:
            self.tell(worker, signal.SIGTERM, within=self.scenario.bounds.drain, spares=True)

    @contextlib.contextmanager
    def frozen(self, *pids: int) -> Iterator[None]:
        """Stop processes for as long as the block lasts."""
        began = time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            # What they had claimed before, they may begin before they learn how long they were away.
            self.faults.append(Fault("freeze", began, time.monotonic() + 1.0, frozenset(pids)))

    @contextlib.contextmanager
    def outage(
        self, kind: str, *, before: float | None = None, after: float = 1.0, undoes: bool = False
    ) -> Iterator[None]:
        """Note that the store is away, or seems so, for all while the block lasts.

        What had ended ``before`` may not be settled, and is undone even if it was when the store forgets: ``undoes``.
        What ends until ``after`` may not find its way yet.
        """
        began = time.monotonic()
        yield
        healed = time.monotonic()
        unsettled = self.ground.unsettled + 0.5 if before is None else before
        self.faults.append(Fault(kind, began, healed + after, None, unsettled, undoes))
        self.healed.append(healed)

    def heal_store(self) -> None:
        """Start the server again if it has given up."""
        if isinstance(self.ground, Served) and not self.ground.is_running:
            self.facts["servers that gave up"] = self.facts.get("servers that gave up", 0) + 1
            self.ground.start()
