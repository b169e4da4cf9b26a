"""A contender's worker processes, with all that they start, and what these cost."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from load_tests.bench import machine

STOP_TIMEOUT = 3.0
"""Seconds to end after SIGTERM, when all tasks have run."""
KILL_TIMEOUT = 10.0


class Workers:
    """Commands that run, each in a session of its own, by which its descendants are known."""

    def __init__(self, commands: list[list[str]], environ: dict[str, str], directory: Path) -> None:
        self.log = directory / "workers.log"
        self.began = time.monotonic()
        self.orphaned = 0.0
        """The CPU time of processes that were killed together with who would have waited for them."""
        with self.log.open("ab") as log:
            self._popens = [
                subprocess.Popen(
                    [_program(command[0], environ), *command[1:]],
                    env=environ,
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                for command in commands
            ]

    def have_ended(self) -> bool:
        """Tell whether none is left."""
        return all(popen.poll() is not None for popen in self._popens)

    def cpu_seconds(self) -> float:
        """Return the CPU time of all, also of those that have ended and were waited for."""
        total = 0.0
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[: machine.CPU])
        return total

    def run_seconds(self) -> float:
        """Return how long the threads that are there have run.

        To the nanosecond, where cpu_seconds() counts ticks of 10 ms, which timers that wake a worker coincide with.
        """
        total = 0
        for process in self._processes():
            for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
                with suppress(OSError):
                    total += int(path.read_text().split()[0])
        return total / 1e9

    def pss(self) -> tuple[float, int]:
        """Return the megabytes of all, shared pages counted by share, and how many processes they are."""
        sizes = []
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                sizes.append(process.memory_full_info().pss)
        return sum(sizes) / 1e6, len(sizes)

    def stop(self) -> None:
        """End all, by SIGTERM first."""
        for popen in self._popens:
            if popen.poll() is None:
                popen.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT
        while not self.have_ended() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()

    def kill(self) -> None:
        """End all at once."""
        first = {popen.pid for popen in self._popens}
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                self.orphaned += 0.0 if process.pid in first else sum(process.cpu_times()[: machine.CPU])
                process.kill()
        for popen in self._popens:
            popen.wait(KILL_TIMEOUT)

    def last_words(self, lines: int = 15) -> str:
        """Return the end of what they have said."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _processes(self) -> Iterator[psutil.Process]:
        sessions = {popen.pid for popen in self._popens}
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, PermissionError):
                if os.getsid(process.pid) in sessions:
                    yield process


def _program(name: str, environ: dict[str, str]) -> str:
    """Return the path of a program of the contender's environment; Popen looks in our own PATH."""
    for directory in environ["PATH"].split(os.pathsep):
        if os.access(path := Path(directory) / name, os.X_OK):
            return str(path)
    raise FileNotFoundError(f"{name} is not in the contender's environment.")
