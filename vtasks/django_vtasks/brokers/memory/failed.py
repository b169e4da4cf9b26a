"""The failed list: capped, newest first."""

from collections.abc import Collection, Iterator
from itertools import islice
from typing import NamedTuple

from django_vtasks.brokers.base import FailedTask
from django_vtasks.brokers.memory.stored import StoredTask


class _Failed(NamedTuple):
    entry: FailedTask
    task: StoredTask


class FailedList:
    """The last ``cap`` failed tasks and how many older ones were dropped."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._failed: list[_Failed] = []
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._failed)

    def add(self, entry: FailedTask, task: StoredTask) -> None:
        """Add an entry and its task, dropping the oldest when the list is full."""
        self._failed.append(_Failed(entry, task))
        if len(self._failed) > self._cap:
            del self._failed[0]
            self.evictions += 1

    def newest(self, limit: int, queue: str | None) -> list[FailedTask]:
        """Return up to ``limit`` entries, newest first."""
        return list(islice((entry for entry, _ in self._newest_first() if queue in {None, entry.queue}), limit))

    def ids(self) -> list[str]:
        """Return the ids of all entries, oldest first."""
        return list(dict.fromkeys(entry.id for entry, _ in self._failed))

    def find(self, task_id: str) -> tuple[FailedTask, StoredTask] | None:
        """Return the newest entry with this id, and its task."""
        return next((failed for failed in self._newest_first() if failed.entry.id == task_id), None)

    def remove(self, entry: FailedTask) -> None:
        """Drop an entry."""
        self._failed = [failed for failed in self._failed if failed.entry is not entry]

    def remove_all(self, task_ids: Collection[str]) -> set[str]:
        """Drop the entries of tasks; return the ids of those that there were."""
        found = {entry.id for entry, _ in self._failed}.intersection(task_ids)
        self._failed = [failed for failed in self._failed if failed.entry.id not in found]
        return found

    def clear(self) -> int:
        """Drop all entries; return how many there were."""
        length = len(self._failed)
        self._failed.clear()
        return length

    def _newest_first(self) -> Iterator[_Failed]:
        return reversed(self._failed)
