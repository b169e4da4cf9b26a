"""One run of a scenario: a store, workers, a feeder, and what is done to them and noted."""

import contextlib
import itertools
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
from typing import TYPE_CHECKING, Any

from django.db import close_old_connections

from load_tests.chaos import account
from load_tests.chaos.account import Fault
from load_tests.chaos.grounds import Ground, Served, ValkeyGround
from load_tests.chaos.ledger import VARIABLE, Ledger
from load_tests.chaos.scenario import Scenario
from tests import servers
from tests.integration.pages import Pages
from tests.integration.probes import eventually
from tests.integration.proxies import Proxy
from tests.integration.workers import RUNWORKER, WorkerProcess

if TYPE_CHECKING:
    from tests.integration.stores import Store  # of models, which Django must be set up for

ROOT = Path(__file__).parents[2]
CODE = os.pathsep.join(str(ROOT / path) for path in (".", "vtasks", "supervisor"))
"""The PYTHONPATH of all that takes part: what is tried is this checkout, whatever else is installed."""
LEASE = 3.0
LIVENESS = 2.0
BEGUN = "· backend"
"""What stands in the first line of a worker's output."""
WARM = 1.0
"""Seconds of undisturbed work before the first fault, from which the usual rate is known."""


class Run:
    """What a scenario's function acts on.

    ``bites`` counts what the faults have met, ``problems`` what the scenario finds wrong by itself.
    """

    def __init__(self, scenario: Scenario, ground: Ground, directory: Path, *, seed: int, seconds: float) -> None:
        self.scenario = scenario
        self.ground = ground
        self.directory = directory
        self.seed = seed
        self.chance = random.Random(seed)  # noqa: S311 - no secret
        self.seconds = seconds
        self.line: Proxy | None = ground.line() if scenario.by_line else None
        for name in ("logs", "gates"):
            (directory / name).mkdir()
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
        self.killed: set[WorkerProcess] = set()
        """Those that were ended without a word, and leave what they held to others."""
        self.told: set[WorkerProcess] = set()
        """Those that have ended because they were told to."""
        self.ports: dict[WorkerProcess, int] = {}
        self.pages: dict[WorkerProcess, Pages] = {}
        """What each worker says of its health, and at which port."""
        self._numbers = itertools.count(1)
        self._seeds = itertools.count(seed)
        self._feeders: list[subprocess.Popen[bytes]] = []

    @property
    def ending(self) -> set[WorkerProcess]:
        """Return those that are expected to have ended."""
        return self.killed | self.told

    # Who takes part -----------------------------------------------------------------------------------------

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
        self.pass_time(WARM)
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
        backs = [
            account.comeback(account.of_queue(events, queue), healed, usual) for queue, usual in self.usual_of.items()
        ]
        return None if None in backs else max(filter(None, backs), default=0.0)

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
    def store(self) -> "Store":
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

    def close(self) -> None:
        """End all that still runs."""
        for feeder in self._feeders:
            feeder.kill()
            feeder.wait()
        for worker in self.workers:
            worker.kill()
        if self.line is not None:
            self.line.close()
