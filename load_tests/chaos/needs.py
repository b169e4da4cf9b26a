"""What some scenarios take beyond servers, and whether this machine has it."""

import shutil
from collections.abc import Collection
from pathlib import Path

from load_tests.chaos import cgroups

ADMIN = "the rights of root (CAP_SYS_ADMIN)"
IPROUTE = "iproute2 (the command ip)"
MOUNT = "the command mount"
PIDS_GROUP = "control groups for processes (pids, in /sys/fs/cgroup)"
MEMORY_GROUP = "control groups for memory (memory, in /sys/fs/cgroup)"
_CAP_SYS_ADMIN = 21
_PROBES = {
    ADMIN: lambda: _has_capability(_CAP_SYS_ADMIN),
    IPROUTE: lambda: shutil.which("ip") is not None,
    MOUNT: lambda: shutil.which("mount") is not None,
    PIDS_GROUP: lambda: cgroups.hierarchy("pids") is not None,
    MEMORY_GROUP: lambda: cgroups.hierarchy("memory") is not None,
}


def lacking(needs: Collection[str]) -> list[str]:
    """Return what of these this machine has not."""
    return [need for need in needs if not _PROBES[need]()]


def _has_capability(number: int) -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    [mask] = [int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")]
    return bool(mask >> number & 1)
