"""A page of memory that a child writes and its supervisor reads when the child is dead, SIGKILL or not."""

import mmap
import os
import struct
import tempfile
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any


class Recorder:
    """``entries`` notes of up to ``width`` bytes each; a note costs no system call."""

    def __init__(self, entries: int, width: int, *, fd: int | None = None) -> None:
        self.entries = entries
        self.width = width
        self._fd = _memory_file(entries * width) if fd is None else fd
        self._page = mmap.mmap(self._fd, entries * width)
        self._note = struct.Struct(f"{width}s")  # pads, and cuts off

    def note(self, entry: int, text: bytes) -> None:
        """Write a note over what was there; what is beyond the width is cut off."""
        if entry >= self.entries:
            raise IndexError(f"There is no entry {entry}; there are {self.entries}.")
        self._note.pack_into(self._page, entry * self.width, text)

    def wipe(self, entry: int) -> None:
        """Take a note back."""
        self._page[entry * self.width] = 0

    def notes(self) -> list[bytes]:
        """Return the notes that stand."""
        page, width = self._page, self.width
        entries = (page[start : start + width].rstrip(b"\0") for start in range(0, self.entries * width, width))
        return [entry for entry in entries if entry and entry[0]]

    def close(self) -> None:
        """Let go of the memory here; the other side keeps its own hold."""
        self._page.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to a process that is being started."""
        return _attached, (DupFd(self._fd), self.entries, self.width)


def _attached(carrier: Any, entries: int, width: int) -> Recorder:
    return Recorder(entries, width, fd=carrier.detach())


def _memory_file(size: int) -> int:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("vtasks-recorder", os.MFD_CLOEXEC)
    else:
        fd, path = tempfile.mkstemp()
        Path(path).unlink()
    os.ftruncate(fd, size)
    return fd
