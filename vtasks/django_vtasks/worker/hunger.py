"""How long threads have been ready to run without a core, which Linux counts for each."""

import contextlib
import os


class Hunger:
    """The time for which the watched threads have waited for a core; none where the system does not tell."""

    def __init__(self) -> None:
        self._files: list[int] = []

    def watch(self, thread: int | None) -> None:
        """Count a running thread in, by its native id."""
        with contextlib.suppress(OSError):  # another system, no /proc, or no file left
            self._files.append(os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY | os.O_CLOEXEC))

    def seconds(self) -> float:
        """Return the sum over the threads, in seconds; it only grows, but when a thread ends."""
        return sum(_waited(file) for file in self._files) / 1e9

    def close(self) -> None:
        """Watch none any more."""
        while self._files:
            os.close(self._files.pop())


def _waited(file: int) -> int:
    """Return nanoseconds: the second figure of schedstat, after those of running."""
    try:
        return int(os.pread(file, 100, 0).split()[1])
    except (OSError, IndexError):  # the thread has ended, or the kernel does not count
        return 0
