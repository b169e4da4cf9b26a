"""What the kernel tells of a process."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import psutil

MB = 1_000_000


def is_gone(pid: int) -> bool:
    """Tell whether a process has died, buried or not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return is_zombie(psutil.Process(pid))
    return True


def is_zombie(process: psutil.Process) -> bool:
    """Tell whether a process is dead and not buried."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return False


def peak(pids: Iterable[int]) -> float:
    """Return the most MB that one of these processes has had in memory."""
    most = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    most = max(most, int(line.split()[1]) * 1024 / MB)
    return most
