"""One queue: its tasks in the order of their claim, and the idle claims that wait for one."""

import asyncio
from bisect import insort
from contextlib import suppress
from math import inf

from django_vtasks.brokers.memory.stored import StoredTask


class Bell:
    """Wakes one idle claim, from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake the claim; a loop that has been closed meanwhile has none."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._event.set)

    async def rung(self, within: float) -> None:
        """Return when the bell has rung, or after ``within`` seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), within)


class MemoryQueue:
    """The waiting and delayed tasks and the suspects of one queue; the caller holds the broker's lock."""

    def __init__(self) -> None:
        self.bells: set[Bell] = set()
        self.is_paused = False
        self._waiting: list[StoredTask] = []
        self._delayed: list[StoredTask] = []
        self._suspects: list[StoredTask] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._delayed) + len(self._suspects)

    def put(self, task: StoredTask) -> None:
        """Add a task at its place, or until it is due among the delayed."""
        if task.due is None:
            insort(self._waiting, task, key=StoredTask.rank)
        else:
            self._delayed.append(task)
        self._ring()

    def hand_back(self, task: StoredTask) -> None:
        """Add a task that has been claimed at its old place, or among the suspects when it has crashed."""
        task.due = None
        insort(self._suspects if task.crashes else self._waiting, task, key=StoredTask.rank)
        self._ring()

    def take(self, limit: int, now: float) -> list[StoredTask]:
        """Remove and return the first ``limit`` tasks that are due."""
        self._promote(now)
        taken, self._waiting = self._waiting[:limit], self._waiting[limit:]
        return taken

    def take_suspects(self, limit: int) -> list[StoredTask]:
        """Remove and return the first ``limit`` suspects."""
        taken, self._suspects = self._suspects[:limit], self._suspects[limit:]
        return taken

    def suspects(self) -> int:
        """Return how many suspects wait."""
        return len(self._suspects)

    def next_due(self) -> float:
        """Return when the next delayed task is due; never if there is none, or none may be claimed."""
        if self.is_paused:
            return inf
        return min((task.due for task in self._delayed if task.due is not None), default=inf)

    def counts(self, now: float) -> tuple[int, int]:
        """Return how many tasks wait for a worker and for their time."""
        self._promote(now)
        return len(self._waiting) + len(self._suspects), len(self._delayed)

    def oldest(self, now: float) -> float | None:
        """Return since when the oldest task that is due has been so, if there is one."""
        self._promote(now)
        return min((task.since for task in self._waiting + self._suspects), default=None)

    def resume(self) -> None:
        """Let the tasks be claimed again."""
        self.is_paused = False
        self._ring()

    def tasks(self) -> list[StoredTask]:
        """Return all tasks."""
        return self._waiting + self._delayed + self._suspects

    def clear(self) -> list[StoredTask]:
        """Remove and return all tasks."""
        cleared = self.tasks()
        self._waiting, self._delayed, self._suspects = [], [], []
        return cleared

    def _ring(self) -> None:
        for bell in self.bells:
            bell.ring()

    def _promote(self, now: float) -> None:
        later = []
        for task in self._delayed:
            if task.due is None or task.due <= now:
                insort(self._waiting, task, key=StoredTask.rank)
            else:
                later.append(task)
        self._delayed = later
