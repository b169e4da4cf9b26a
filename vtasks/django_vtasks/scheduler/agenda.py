"""What is due, and when the next is: all entries of a schedule in one heap."""

import heapq
from collections.abc import Mapping, Sequence

from django_vtasks.brokers.base import Due
from django_vtasks.schedule import missed
from django_vtasks.scheduler.entries import Entry

NEVER = float("inf")


class Agenda:
    """The slots from ``now`` on, after those that were missed: each entry's are open since the moment in ``since``.

    ``dropped`` says of how many missed slots nothing becomes, by entry. Times are in seconds since the epoch.
    """

    def __init__(self, entries: Sequence[Entry], since: Mapping[str, float], now: float, grace: float) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._heap: list[tuple[float, str]] = []
        self._overdue: list[tuple[float, str]] = []
        self.dropped: dict[str, int] = {}
        for name, entry in self._entries.items():
            slots, dropped = missed(entry.timetable, since[name], now, entry.misfire, grace=grace)
            self._overdue += [(slot, name) for slot in slots]
            if dropped:
                self.dropped[name] = dropped
            if (slot := entry.timetable.after(max(since[name], now))) is not None:
                self._heap.append((slot, name))
        self._overdue.sort()
        heapq.heapify(self._heap)

    @property
    def next(self) -> float:
        """Return when the next slot is due."""
        if self._overdue:
            return self._overdue[0][0]
        return self._heap[0][0] if self._heap else NEVER

    def take(self, now: float) -> list[Due]:
        """Return all that is due, ascending, and count on its being done."""
        overdue, self._overdue = self._overdue, []
        dues = [self._entries[name].due(slot, now) for slot, name in overdue]
        heap = self._heap
        while heap and heap[0][0] <= now:
            slot, name = heap[0]
            entry = self._entries[name]
            dues.append(entry.due(slot, now))
            if (following := entry.timetable.after(slot)) is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (following, name))
        return dues
