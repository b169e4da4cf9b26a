"""Worker processes as an operator has them: started from the shell, told by signals, known by their log."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.integration.probes import PATIENCE, eventually
from tests.workapp.apps import DEADLINE_VARIABLE, LIVENESS_VARIABLE

ROOT = Path(__file__).parents[2]
RUNWORKER = ("-m", "django", "runworker")
PIPE = 4096
UNREAD = f"""
import fcntl, os, sys
read, write = os.pipe()
fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, {PIPE})
os.set_inheritable(read, True)  # somebody holds it, as a stopped reader does
os.dup2(write, 1)
os.dup2(write, 2)
os.execv(sys.executable, [sys.executable, "-m", "django", "runworker", *sys.argv[1:]])
"""
"""A worker whose output goes into a pipe that is held and never read."""
FULL_DISK = "/dev/full"
TO_FULL_DISK = f"""
import os, sys
full = os.open({FULL_DISK!r}, os.O_WRONLY)
os.dup2(full, 1)
os.dup2(full, 2)
os.execv(sys.executable, [sys.executable, "-m", "django", "runworker", *sys.argv[1:]])
"""
"""A worker whose output goes to a disk without room."""

DEADLINE = 1.5
IMPATIENT = {DEADLINE_VARIABLE: str(DEADLINE)}
"""The environment of a worker whose patience with the database is short."""
IMPATIENT_WITH_ACTORS = {LIVENESS_VARIABLE: "1.5"}
"""The environment of a worker whose patience with silent actors is short."""


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
        """Let the worker vanish with all its processes, as when its host does."""
        self.freeze()  # none shall notice the end of another
        self._signal_all(signal.SIGKILL)
        self.process.wait(PATIENCE)
        eventually(lambda: not self.processes(), "all processes of the worker are gone")

    def freeze(self) -> None:
        """Stop all its processes."""
        for process in self.processes():  # the oldest first, which starts others
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal_all(signal.SIGCONT)

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the worker, whatever has become of its supervisor: they share a session."""
        return [process for process in psutil.process_iter() if _session(process.pid) == self.process.pid]

    def actors(self) -> dict[str, int]:
        """Return the process ids of the actors by the names in their titles."""
        titles = {process.pid: " ".join(_command_line(process)) for process in self.processes()}
        found = {pid: _ACTOR.match(title) for pid, title in titles.items()}
        return {match[1]: pid for pid, match in found.items() if match}

    def _signal_all(self, number: signal.Signals) -> None:
        # The oldest last: the kernel lets a stopped child go on whose parent has ended.
        for process in reversed(self.processes()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def exit_code(self, within: float = PATIENCE) -> int:
        """Return the exit code of a worker that ends within so many seconds."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"The worker still runs after {within:g} s") from None

    def log_lines(self, *texts: str) -> list[str]:
        """Return the lines of the log that contain all of these texts."""
        return [line for line in self.log.splitlines() if all(text in line for text in texts)]


_ACTOR = re.compile(r"vtasks: (.+#\d+|.+ \((?:suspects|batch)\)|scheduler)\s*$")


def _session(pid: int) -> int | None:
    try:
        return None if _is_dead(pid) else os.getsid(pid)
    except ProcessLookupError:
        return None


def _is_dead(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
