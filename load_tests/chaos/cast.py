"""Who takes part in a run: workers and feeders, and what each is told."""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from django.db import close_old_connections

from load_tests.chaos import account
from load_tests.chaos.ground import Ground
from load_tests.chaos.ledger import VARIABLE
from load_tests.chaos.observations import Observations
from load_tests.chaos.scenario import Scenario
from tests import servers
from tests.integration.pages import Pages
from tests.integration.proxies import Proxy
from tests.integration.workers import RUNWORKER, WorkerProcess

ROOT = Path(__file__).parents[2]
CODE = os.pathsep.join(str(ROOT / path) for path in (".", "vtasks", "supervisor"))
"""The PYTHONPATH of all that takes part: what is tried is this checkout, whatever else is installed."""
LEASE = 3.0
LIVENESS = 2.0
WARM = 1.0
"""Seconds of undisturbed work before the first fault, from which the usual rate is known."""


class Cast(Observations):
    """Starts who takes part, and ends whoever still does."""

    def __init__(self, scenario: Scenario, ground: Ground, directory: Path, seed: int) -> None:
        super().__init__(scenario, ground, directory)
        self.line: Proxy | None = ground.line() if scenario.by_line else None
        for name in ("logs", "gates"):
            (directory / name).mkdir()
        self.ports: dict[WorkerProcess, int] = {}
        self.pages: dict[WorkerProcess, Pages] = {}
        """What each worker says of its health, and at which port."""
        self._numbers = itertools.count(1)
        self._seeds = itertools.count(seed)
        self._feeders: list[subprocess.Popen[bytes]] = []

    def environment(self, line: Proxy | None = None) -> dict[str, str]:
        """Return what a process must be told that takes part."""
        return {
            "DJANGO_SETTINGS_MODULE": "load_tests.chaos.settings",
            "LOAD_TEST_SETTINGS": json.dumps(self.ground.settings(line)),
            "CHAOS_SETTINGS": json.dumps(dict(self.scenario.settings)),
            VARIABLE: str(self.ledger.directory),
            "TEST_LEDGER": str(self.directory / "gates"),
            "TEST_ACTOR_LIVENESS": str(LIVENESS),
            "PYTHONPATH": CODE,
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
        number, port = len(self.workers) + 1, servers.free_port()
        worker = WorkerProcess(
            self.directory / "logs" / f"worker-{number}.log",
            *(options or self.scenario.options),
            environment=self.environment(line or self.line)
            | {"VTASKS_WORKER_ID": f"w{number}", "VTASKS_HEALTH_PORT": str(port)}
            | environment,
            command=command,
        )
        self.workers.append(worker)
        self.ports[worker], self.pages[worker] = port, Pages(port)
        return worker

    def feed(self, rate: float, *queues: str, line: Proxy | None = None, **environment: str) -> subprocess.Popen[bytes]:
        """Start to enqueue at a rate, by a process of its own with a seed of its own, which its keys begin with."""
        seed = str(next(self._seeds))
        log = self.directory / "logs" / "feeder.log"
        with log.open("ab") as output:
            feeder = subprocess.Popen(
                [sys.executable, "-m", "load_tests.chaos.feeder", seed, str(rate), *(queues or self.scenario.queues)],
                cwd=ROOT,
                env=os.environ | self.environment(line) | environment,
                stdin=subprocess.PIPE,
                stderr=output,
            )
        self._feeders.append(feeder)
        return feeder

    @property
    def is_fed(self) -> bool:
        """Tell whether somebody enqueues."""
        return bool(self._feeders)

    def enqueue(self, task: Any, key: str, *arguments: Any, **options: Any) -> Any:
        """Enqueue a call that is accounted for as those of the feeder."""
        from load_tests.chaos.tasks import pen

        close_old_connections()  # the store may have gone since the last
        pen.write("try", key)
        result = task.using(**options).enqueue(key, *arguments)
        pen.write("accept", key, result.id)
        return result

    def occupy(self, count: int, seconds: float) -> None:
        """Enqueue tasks that take long, and return when they run: so that who is hit next is at work."""
        from load_tests.chaos import tasks

        keys = {f"long{next(self._numbers)}" for _ in range(count)}
        for key in keys:
            self.enqueue(tasks.awork, key, seconds)
        self.until(lambda: keys <= {e.key for e in self.ledger.events() if e.kind == "start"}, "long tasks run", 10.0)

    def begin_feeding(self) -> None:
        """Feed as a scenario does whose workers are its own, and learn the usual rate."""
        rate = self.scenario.rate or 100.0
        self.feed(rate)
        self.until(lambda: self.ended() > rate * WARM / 2, "tasks run before anything happens")
        since = time.monotonic()
        time.sleep(WARM)
        events, now = self.ledger.events(), time.monotonic()
        self.usual = account.rate(events, since, now)
        self.usual_of = {
            queue: account.rate(account.of_queue(events, queue), since, now) for queue in self.scenario.queues
        }

    def stop_feeding(self) -> None:
        """End all feeders after the call that they make."""
        for feeder in self._feeders:
            assert feeder.stdin is not None
            feeder.stdin.close()
        for feeder in self._feeders:
            if feeder.wait(60.0) != 0:
                log = (self.directory / "logs" / "feeder.log").read_text()[-2000:]
                self.problems.append(f"the feeder ended with {feeder.returncode}: {log}")
        self._feeders.clear()

    def actors(self, worker: WorkerProcess | None = None) -> dict[str, int]:
        """Return the process ids of a worker's actors, but those of its suspects, by name."""
        found = (worker or self.workers[0]).actors()
        return {name: pid for name, pid in found.items() if "#" in name}

    def close(self) -> None:
        """End all that still runs."""
        for feeder in self._feeders:
            feeder.kill()
            feeder.wait()
        for worker in self.workers:
            worker.kill()
        if self.line is not None:
            self.line.close()
