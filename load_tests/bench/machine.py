"""Where and of what the figures are: processor, system, commit."""

import datetime as dt
import os
import platform
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
GIT_TIMEOUT = 20.0
CPU = 4
"""Of a process's times: user, system, and both of children that have ended."""


def describe() -> dict[str, str | int]:
    """Return what this machine is."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 0,
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def commit() -> str:
    """Return the commit of this checkout, with a + when something has changed since."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return head + ("+" if head and _git("status", "--porcelain", "--untracked-files=no") else "")


def now() -> str:
    """Return the time as it stands in lines of results."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def busy_seconds() -> float:
    """Return for how long the processors have been at work, all together."""
    times = psutil.cpu_times()._asdict()
    idle = {"idle", "iowait", "guest", "guest_nice", "steal"}  # guests are in "user" already
    return float(sum(seconds for name, seconds in times.items() if name not in idle))


def our_seconds() -> float:
    """Return the CPU time of this process and of all that it has started, also of what has ended and was waited for."""
    this = psutil.Process()
    total = 0.0
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:CPU])
    return total


class Others:
    """Who is at work from now on, and neither this process nor started by it."""

    def __init__(self) -> None:
        self._busy, self._ours, self._began = busy_seconds(), our_seconds(), time.monotonic()

    def cores(self, orphaned: float = 0.0) -> float:
        """Return how many cores they have used; ``orphaned`` is our CPU time for which nobody could wait."""
        seconds = time.monotonic() - self._began
        ours = our_seconds() + orphaned - self._ours
        return max(0.0, (busy_seconds() - self._busy - ours) / seconds)


def wait_until_calm(cores: float, patience: float, interval: float = 1.0) -> bool:
    """Return True when no more than so many cores are at work, False when that does not happen in time."""
    deadline = time.monotonic() + patience
    while True:
        busy, began = busy_seconds(), time.monotonic()
        time.sleep(interval)
        if (busy_seconds() - busy) / (time.monotonic() - began) <= cores:
            return True
        if time.monotonic() > deadline:
            return False


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - wherever it is
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
