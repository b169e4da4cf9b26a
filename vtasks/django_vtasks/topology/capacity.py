"""How many actor processes fit this machine, container or dyno."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import psutil

MB = 1024 * 1024
UNLIMITED = 2**60
"""Bytes; cgroup v1 says "no limit" with the largest multiple of a page that a long holds."""
USABLE = 0.85
"""Part of the memory; with more in use a dyno swaps, and elsewhere the kernel begins to kill."""
UNIFIED_MOUNTS = ("sys/fs/cgroup", "sys/fs/cgroup/unified")
"""Where cgroup v2 is, alone or beside v1."""
ROOT = Path("/")


def auto_processes(
    queues: int,
    *,
    root: Path = ROOT,
    environ: Mapping[str, str] = os.environ,
    actor_bytes: int = 45 * MB,
    base_bytes: int = 60 * MB,
) -> int:
    """Return what ``--processes auto`` stands for on this machine: actor processes for each of ``queues`` queues.

    ``--processes N`` means N actors per queue. ``auto`` chooses N so that the actors of all queues together are no more
    than the CPUs and fit the memory beside the supervisor (``base_bytes``): all queues may be busy at the same time.
    N is at least 1, so that many queues on a small machine take more than it has; fewer queues per worker help there.
    """
    actors = cpus(root=root)
    memory = _smallest(memory_limit(root=root, environ=environ), _installed_memory())
    if memory is not None:
        actors = min(actors, math.floor((memory * USABLE - base_bytes) / actor_bytes))
    return max(1, actors // max(1, queues))


def memory_limit(*, root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> int | None:
    """Return how many bytes Heroku's DYNO_RAM and the cgroups let this process and its like use; None: all there is."""
    return _smallest(
        _positive(environ.get("DYNO_RAM", ""), unit=MB),
        *(_positive(_read(group / "memory.max")) for group in _groups(root)),
        *(_positive(_read(group / "memory.limit_in_bytes")) for group in _groups(root, "memory")),
    )


def cpus(*, root: Path = ROOT) -> int:
    """Return how many CPUs this process may keep busy, at least 1; a quota of 1.5 CPUs counts as 2."""
    usable = _smallest(
        _allowed_cpus(),
        *(_quota(_read(group / "cpu.max")) for group in _groups(root)),
        *(
            _quota(_read(group / "cpu.cfs_quota_us") + " " + _read(group / "cpu.cfs_period_us"))
            for group in _groups(root, "cpu")
        ),
    )
    return usable or 1


def oom_kills(*, root: Path = ROOT) -> int | None:
    """Return how many processes of the own cgroup the kernel has ever killed for memory; None when it does not tell."""
    files = [group / "memory.events" for group in _groups(root)]
    files += [group / "memory.oom_control" for group in _groups(root, "memory")]
    for file in files:
        for line in _read(file).splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.isdigit():
                return int(count)
    return None


def _groups(root: Path, controller: str = "") -> Iterator[Path]:
    """Yield where the own cgroup and its parents may be; ``controller`` is empty for v2.

    In a container the path in /proc is often the host's, and the own cgroup is at the mount point itself.
    """
    mounts, path = _place(root, controller)
    inner = PurePosixPath(*(part for part in PurePosixPath(path).parts if part not in {"/", ".."}))
    for mount in mounts:
        for group in (inner, *inner.parents):
            yield root / mount / group


def _place(root: Path, controller: str) -> tuple[tuple[str, ...], str]:
    """Return the mount points of a hierarchy, and the path of the own cgroup below them."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(","):
            return _mounts(controllers, controller), path
    return _mounts(controller), ""


def _mounts(*controllers: str) -> tuple[str, ...]:
    if "" in controllers:
        return UNIFIED_MOUNTS
    return tuple(f"sys/fs/cgroup/{name}" for name in controllers)


def _quota(text: str) -> int | None:
    """Return how many CPUs "quota period" allows, a begun one in full; None for "max 100000", "-1 100000" and less."""
    quota, period = [*map(_positive, text.split()), None, None][:2]
    return math.ceil(quota / period) if quota and period else None


def _positive(text: str, *, unit: int = 1) -> int | None:
    """Return the number that the text is, if that is a limit at all."""
    try:
        number = int(text) * unit
    except ValueError:
        return None
    return number if 0 < number < UNLIMITED else None


def _smallest(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _read(file: Path) -> str:
    """Return what is in the file; nothing if it cannot be read, which is as good as no limit."""
    try:
        return file.read_text()
    except (OSError, ValueError):
        return ""


def _allowed_cpus() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _installed_memory() -> int | None:
    try:
        return int(psutil.virtual_memory().total)
    except (OSError, psutil.Error):  # no /proc
        return None
