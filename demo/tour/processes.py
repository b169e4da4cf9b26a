"""The demo's own processes, and its directory."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MANAGE = Path(__file__).parents[1] / "manage.py"
LINES = 15
"""How much of a log is worth showing."""
LOOK_EVERY = 0.1
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_WITHIN = 40.0
"""Seconds; the worker gives its tasks 25 before it hands them back."""


class InUse(Exception):
    """Another demo works in the same directory."""


@contextlib.contextmanager
def fresh(directory: Path) -> Iterator["Processes"]:
    """Empty a directory of what demos left in it, and keep other demos out; yield who starts processes there."""
    with (directory / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            pids = " ".join(lock.read().split())
            raise InUse(f"A demo is at work in {directory}, as the processes {pids}. End it first.") from error
        lock.truncate(0)
        print(os.getpid(), file=lock, flush=True)
        for path in [*directory.glob("demo.sqlite3*"), *directory.glob("*.log")]:
            path.unlink()
        for name in ("mail", "reports"):
            shutil.rmtree(directory / name, ignore_errors=True)
        processes = Processes(lock)
        try:
            yield processes
        finally:
            processes.stop()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Put signals off until the end of the block."""
    pending: list[int] = []
    handlers = {number: signal.signal(number, lambda *args: pending.append(args[0])) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if pending:
            signal.raise_signal(pending[0])


class Processes:
    """Starts processes, and knows them all, so that none is left behind."""

    def __init__(self, lock: IO[str]) -> None:
        self._lock = lock
        self._started: list[Command] = []

    def start(self, log: Path, *arguments: str) -> "Command":
        """Start a manage.py command whose output goes to a log file."""
        with undisturbed():
            command = Command(self._lock, log, *arguments)
            self._started.append(command)
        return command

    def stop(self) -> None:
        """Stop those that still run."""
        for command in self._started:
            command.stop()


class Command:
    """A manage.py command in a process of its own."""

    def __init__(self, lock: IO[str], log: Path, *arguments: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-u", str(MANAGE), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for run.py, which then ends its processes one after the other.
                process_group=0,
                # Should run.py be killed, the lock lives on as long as this process.
                pass_fds=[lock.fileno()],
            )
        print(self.pid, file=lock, flush=True)

    @property
    def pid(self) -> int:
        """Return the process's id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Return how the process ended; None while it runs, negative when a signal ended it."""
        return self._process.poll()

    def stop(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def obituary(self) -> str:
        """Return how the process ended, and its last words."""
        lines = self.log.read_text(errors="replace").splitlines()[-LINES:]
        said = ["Its last lines:", *(f"    {line}" for line in lines)] if lines else ["It had said nothing."]
        return "\n".join([f"Process {self.pid} has ended with exit code {self.exit_code}.", *said])
