"""One run of a scenario: a store, workers, a feeder, and what is done to them and noted."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from load_tests.chaos.account import Fault
from load_tests.chaos.grounds import Ground
from load_tests.chaos.ledger import VARIABLE, Ledger
from load_tests.chaos.scenario import Scenario
from tests.integration.probes import eventually
from tests.integration.proxies import Proxy
from tests.integration.workers import RUNWORKER, WorkerProcess

ROOT = Path(__file__).parents[2]
LEASE = 3.0
LIVENESS = 2.0
WARM = 1.0
"""Seconds of undisturbed work before the first fault, from which the usual rate is known."""


class Run:
    """What a scenario's function acts on.

    ``bites`` counts what the faults have met, ``problems`` what the scenario finds wrong by itself.
    """

    def __init__(self, scenario: Scenario, ground: Ground, *, seed: int, seconds: float) -> None:
        self.scenario = scenario
        self.ground = ground
        self.seed = seed
        self.chance = random.Random(seed)  # noqa: S311 - no secret
        self.seconds = seconds
        self.line: Proxy | None = ground.line() if scenario.by_line else None
        (ground.directory / "logs").mkdir()
        self.ledger = Ledger(ground.directory / "ledger")
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
        self.ending: set[WorkerProcess] = set()
        """Those that are expected to have ended."""
        self._feeders: list[subprocess.Popen[bytes]] = []

    # Who takes part -----------------------------------------------------------------------------------------

    def environment(self, line: Proxy | None = None) -> dict[str, str]:
        """Return what a process must be told that takes part."""
        return {
            "DJANGO_SETTINGS_MODULE": "load_tests.chaos.settings",
            "LOAD_TEST_SETTINGS": json.dumps(self.ground.settings(line)),
            "CHAOS_SETTINGS": json.dumps(dict(self.scenario.settings)),
            VARIABLE: str(self.ledger.directory),
            "TEST_LEDGER": str(self.ground.directory / "gates"),
            "TEST_ACTOR_LIVENESS": str(LIVENESS),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "VTASKS_LEASE": str(LEASE),
            "VTASKS_MAX_RESCUES": "20",
            "VTASKS_QUEUES": ",".join(self.scenario.queues),
            **self.scenario.environment,
        }

    def worker(
        self, *options: str, line: Proxy | None = None, command: tuple[str, ...] = RUNWORKER, **environment: str
    ) -> WorkerProcess:
        """Start a worker; it takes tasks when this returns."""
        return self.start(*options, line=line, command=command, **environment).until_ready()

    def start(
        self, *options: str, line: Proxy | None = None, command: tuple[str, ...] = RUNWORKER, **environment: str
    ) -> WorkerProcess:
        """Start a worker."""
        number = len(self.workers) + 1
        worker = WorkerProcess(
            self.ground.directory / "logs" / f"worker-{number}.log",
            *(options or self.scenario.options),
            environment=self.environment(line or self.line) | {"VTASKS_WORKER_ID": f"w{number}"} | environment,
            command=command,
        )
        self.workers.append(worker)
        return worker

    def feed(self, rate: float, *queues: str, line: Proxy | None = None) -> subprocess.Popen[bytes]:
        """Start to enqueue at a rate, by a process of its own."""
        seed = str(self.seed + len(self._feeders))
        log = self.ground.directory / "logs" / "feeder.log"
        with log.open("ab") as output:
            feeder = subprocess.Popen(
                [sys.executable, "-m", "load_tests.chaos.feeder", seed, str(rate), *(queues or self.scenario.queues)],
                cwd=ROOT,
                env=os.environ | self.environment(line),
                stdin=subprocess.PIPE,
                stderr=output,
            )
        self._feeders.append(feeder)
        return feeder

    def stop_feeding(self) -> None:
        """End all feeders after the call that they make."""
        for feeder in self._feeders:
            assert feeder.stdin is not None
            feeder.stdin.close()
        for feeder in self._feeders:
            if feeder.wait(60.0) != 0:
                log = (self.ground.directory / "logs" / "feeder.log").read_text()[-2000:]
                self.problems.append(f"the feeder ended with {feeder.returncode}: {log}")
        self._feeders.clear()

    def actors(self, worker: WorkerProcess | None = None) -> dict[str, int]:
        """Return the process ids of a worker's actors, but those of its suspects, by name."""
        found = (worker or self.workers[0]).actors()
        return {name: pid for name, pid in found.items() if "#" in name}

    # What is done to them -----------------------------------------------------------------------------------

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
        now = time.monotonic()
        worker.kill()
        self.ending.add(worker)
        self.faults.append(Fault("kill", now, now, pids, before=1.0))

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
    def outage(self, kind: str, *, before: float | None = None, after: float = 1.0) -> Iterator[None]:
        """Note that the store is away, or seems so, for all while the block lasts.

        What had ended ``before`` may be undone; what ends until ``after`` may not find its way yet.
        """
        began = time.monotonic()
        yield
        healed = time.monotonic()
        unsettled = self.ground.unsettled + 0.5 if before is None else before
        self.faults.append(Fault(kind, began, healed + after, None, unsettled))
        self.healed.append(healed)

    # What has come of it ------------------------------------------------------------------------------------

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

    def said(self, text: str) -> int:
        """Return how often the workers have said something."""
        return sum(worker.log.count(text) for worker in self.workers)

    def ended(self) -> int:
        """Return how many runs have ended so far."""
        return self.ledger.count("end")

    @property
    def backend(self) -> Any:
        """The backend of this process, which reaches the store directly."""
        from django.tasks import task_backends

        return task_backends["default"]

    @property
    def broker(self) -> Any:
        """The broker of this process."""
        return self.backend.broker

    def close(self) -> None:
        """End all that still runs."""
        for feeder in self._feeders:
            feeder.kill()
            feeder.wait()
        for worker in self.workers:
            worker.kill()
        if self.line is not None:
            self.line.close()
