"""The failed list: capped, newest first."""

from collections import deque
from itertools import islice

from django_vtasks.brokers.base import FailedTask


class FailedList:
    """The last ``cap`` failed tasks and how many older ones were dropped."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._entries: deque[FailedTask] = deque()
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: FailedTask) -> None:
        """Add an entry, dropping the oldest when the list is full."""
        self._entries.append(entry)
        if len(self._entries) > self._cap:
            self._entries.popleft()
            self.evictions += 1

    def newest(self, limit: int) -> list[FailedTask]:
        """Return up to ``limit`` entries, newest first."""
        return list(islice(reversed(self._entries), limit))

    def clear(self) -> int:
        """Drop all entries; return how many there were."""
        length = len(self._entries)
        self._entries.clear()
        return length
