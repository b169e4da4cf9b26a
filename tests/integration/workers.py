"""Worker processes as an operator has them: started from the shell, told by signals, known by their log."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.integration.probes import PATIENCE, eventually

ROOT = Path(__file__).parents[2]
RUNWORKER = ("-m", "django", "runworker")

DEADLINE = 1.5
# A worker whose patience with the database is short, as a test must have it that waits for its end.
IMPATIENT = f"""
import sys

import django
from django.core.management import execute_from_command_line

django.setup()
from django_vtasks.brokers.database import DatabaseBroker

DatabaseBroker.__init__.__kwdefaults__["deadline"] = {DEADLINE}
execute_from_command_line(["django", "runworker", *sys.argv[1:]])
"""
IMPATIENT_RUNWORKER = ("-c", IMPATIENT)


class WorkerProcess:
    """One ``runworker`` in a session of its own."""

    def __init__(
        self, log: Path, *options: str, environment: dict[str, str], command: tuple[str, ...] = RUNWORKER
    ) -> None:
        self._log = log
        self.started_at = time.monotonic()
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command, *options],
                cwd=ROOT,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def is_ready(self) -> bool:
        return "takes tasks of" in self.log

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def until_ready(self) -> "WorkerProcess":
        self.until_it_says("takes tasks of")
        return self

    def until_it_says(self, text: str, times: int = 1, within: float = PATIENCE) -> None:
        eventually(lambda: self.log.count(text) >= times or not self.is_running, f"{text!r} in the log", within)
        assert self.log.count(text) >= times, f"The worker ended ({self.process.returncode}) without {text!r}"

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def exits_on(self, number: signal.Signals, after: float) -> None:
        """Send a signal so many seconds after the start, whatever the worker does by then."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, self.started_at + after - time.monotonic()))
        self.process.send_signal(number)

    def kill(self) -> None:
        """Let the worker vanish with all that it might have started."""
        if self.is_running:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def exit_code(self, within: float = PATIENCE) -> int:
        """Return the exit code of a worker that ends within so many seconds."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"The worker still runs after {within:g} s") from None

    def log_lines(self, *texts: str) -> list[str]:
        """Return the lines of the log that contain all of these texts."""
        return [line for line in self.log.splitlines() if all(text in line for text in texts)]
