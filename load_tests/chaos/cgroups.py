"""Control groups of version 1 or 2: some processes have only so much memory, or are only so many."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/sys/fs/cgroup")


class Hierarchy(NamedTuple):
    """Where groups can be made that limit something, and what their files are called.

    ``refused`` is the word in the file ``events`` before how often the limit has cost a process, or one too many.
    """

    root: Path
    limit: str
    unlimited: str
    events: str
    refused: str
    is_unified: bool = False
    """Whether all that is limited is limited there, which is version 2."""


class Group(NamedTuple):
    """A group with its processes."""

    path: Path
    hierarchy: Hierarchy

    def limit(self, most: int | None) -> None:
        """Let it have so many bytes or processes; None: any number."""
        self._write(self.hierarchy.limit, self.hierarchy.unlimited if most is None else str(most))

    def refused(self) -> int:
        """Return how often the kernel has killed one for want of memory, or refused to start one more."""
        lines = (self.path / self.hierarchy.events).read_text().splitlines()
        return int(dict(line.split() for line in lines)[self.hierarchy.refused])

    def move(self, pid: int) -> None:
        """Take a process in, with those that it starts from now on."""
        self._write("cgroup.procs", str(pid))

    def _write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)


def hierarchy(controller: str, root: Path = ROOT) -> Hierarchy | None:
    """Return where this process can make groups for ``memory`` or ``pids``, if anywhere."""
    old, new = {
        "memory": (
            Hierarchy(root / "memory", "memory.limit_in_bytes", "-1", "memory.oom_control", "oom_kill"),
            Hierarchy(root, "memory.max", "max", "memory.events", "oom_kill", is_unified=True),
        ),
        "pids": (
            Hierarchy(root / "pids", "pids.max", "max", "pids.events", "max"),
            Hierarchy(root, "pids.max", "max", "pids.events", "max", is_unified=True),
        ),
    }[controller]
    if _is_writable(old.root):
        return old
    for where in (root, root / "unified"):  # alone, and beside version 1
        if _is_writable(where) and controller in (where / "cgroup.controllers").read_text().split():
            return new._replace(root=where)
    return None


@contextlib.contextmanager
def group(controller: str, pids: Iterable[int]) -> Iterator[Group]:
    """Yield a group of one's own with some processes, which go back to the root at the end."""
    found = hierarchy(controller)
    assert found is not None
    if found.is_unified:
        (found.root / "cgroup.subtree_control").write_text(f"+{controller}")
    made, root = (Group(path, found) for path in (found.root / f"vtasks-chaos-{os.getpid()}", found.root))
    made.path.mkdir()
    try:
        for pid in pids:
            made.move(pid)
        yield made
    finally:
        for line in (made.path / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                root.move(int(line))
        with contextlib.suppress(OSError):
            made.path.rmdir()


def _is_writable(hierarchy: Path) -> bool:
    return (hierarchy / "cgroup.procs").exists() and os.access(hierarchy, os.W_OK)
