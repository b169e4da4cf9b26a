"""Real trees: a program in a session of its own, known by the events that it tells."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from tests.integration.probes import PATIENCE, eventually
from tests.integration.supervisor.actors import GO

ROOT = Path(__file__).parents[3]
PRELOAD = "tests.integration.supervisor.actors"
PROGRAM = "tests.integration.supervisor.program"


class RunningTree:
    """A supervisor and its children, as processes."""

    def __init__(self, directory: Path, *specs: Any, preload: Any, method: Any, patient: bool, environment: Any):
        self._out, self._log = directory / "events", directory / "log"
        self._go = directory / "go"
        orders = {"specs": specs, "preload": preload, "method": method, "patient": patient}
        with self._out.open("wb") as out, self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", PROGRAM, json.dumps(orders)],
                cwd=ROOT,
                env=os.environ | {GO: str(self._go), "PYTHONUNBUFFERED": "1"} | environment,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )

    # What it says --------------------------------------------------------------------------------------------

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def events(self) -> list[dict[str, Any]]:
        *lines, _ = self._out.read_text().split("\n")
        return [json.loads(line) for line in lines]

    def such(self, kind: str, **facts: Any) -> list[dict[str, Any]]:
        wanted = {"event": kind, **facts}
        return [event for event in self.events if wanted.items() <= event.items()]

    def until(self, kind: str, times: int = 1, **facts: Any) -> dict[str, Any]:
        """Wait for an event, or for so many; return the last of them."""
        what = f"{kind} {facts}, {times} times"
        eventually(lambda: len(self.such(kind, **facts)) >= times or self.process.poll() is not None, what)
        such = self.such(kind, **facts)
        assert len(such) >= times, f"ended with {self.process.returncode} without {what}:\n{self.log}"
        return such[times - 1]

    def ready(self, name: str, incarnation: int = 1) -> int:
        """Return the process of a child that is ready."""
        pid: int = self.until("ChildReady", name=name, incarnation=incarnation)["pid"]
        return pid

    def exit_of(self, name: str, incarnation: int = 1) -> dict[str, Any]:
        exit_: dict[str, Any] = self.until("ChildExited", name=name, incarnation=incarnation)["exit"]
        return exit_

    # What it is told -----------------------------------------------------------------------------------------

    def order(self, *order: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def tell(self, name: str, *message: Any) -> None:
        self.order("tell", name, message)

    def ask(self, name: str, *message: Any, times: int = 1) -> Any:
        """Tell a child something; return what comes of it."""
        self.tell(name, *message)
        answers = eventually(
            lambda: [
                event["message"][1] for event in self.such("ChildSaid", name=name) if event["message"][0] == message[0]
            ],
            f"an answer of {name} to {message}",
        )
        return answers[-1]

    def is_waiting(self) -> None:
        """Wait until somebody waits for go()."""
        eventually(self._go.with_suffix(".waiting").exists, "somebody who waits")

    def go(self) -> None:
        self._go.touch()

    # Its processes -------------------------------------------------------------------------------------------

    @property
    def pids(self) -> set[int]:
        """Return all processes of the session that are not dead, whoever is their parent."""
        return {pid for pid in psutil.pids() if self._is_ours(pid)}

    def _is_ours(self, pid: int) -> bool:
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            return os.getsid(pid) == self.process.pid and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        return False

    @property
    def fork_server(self) -> psutil.Process:
        return next(
            child
            for child in psutil.Process(self.process.pid).children()
            if any("multiprocessing.forkserver" in argument for argument in child.cmdline())
        )

    def zombies(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if child.status() == psutil.STATUS_ZOMBIE]

    def send_to_all(self, number: signal.Signals) -> None:
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def exit_code(self, within: float = PATIENCE) -> int:
        return self.process.wait(within)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.exit_code()

    def end(self) -> None:
        """Let nothing of it be left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.send_to_all(signal.SIGKILL)
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait(PATIENCE)
