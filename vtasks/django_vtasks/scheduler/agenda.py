"""What is due, and when the next is: all entries of a schedule in one heap."""

import heapq
import math
from collections.abc import Mapping, Sequence

from django_vtasks.brokers.base import Due, Tick
from django_vtasks.schedule import CatchUp, missed
from django_vtasks.scheduler.entries import Entry

NEVER = float("inf")
FIRST_RETRY, LONGEST_RETRY = 0.5, 5.0
"""Seconds until an entry that is held up is tried again, the first time and after many times."""


class Agenda:
    """The slots from ``now`` on, after those that were missed: each entry's are open since the moment in ``since``.

    ``dropped`` says of how many missed slots nothing becomes, by entry. Times are in seconds since the epoch, but those
    of retries, which no clock that is set may put off.
    """

    def __init__(self, entries: Sequence[Entry], since: Mapping[str, float], now: float, grace: float) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._grace = grace
        self._heap: list[tuple[float, str]] = []
        self._overdue: list[tuple[float, str]] = []
        self._taken: dict[str, float] = {}
        self._held_up: dict[str, float] = {}
        self._retry_at: dict[str, float] = {}
        self._retried: dict[str, tuple[float, int]] = {}
        self._tries: dict[str, int] = {}
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
        """Return when the next slot is due, retries aside."""
        if self._overdue:
            return self._overdue[0][0]
        return self._heap[0][0] if self._heap else NEVER

    @property
    def next_retry(self) -> float:
        """Return when the next entry that is held up is to be tried again, by the clock that settle() was told."""
        return min(self._retry_at.values(), default=NEVER)

    def next_slots(self) -> dict[str, float]:
        """Return the first slot of each entry that has not been settled; may be called on any thread."""
        slots = {name: slot for slot, name in list(self._heap)}
        slots |= {name: slot for slot, name in reversed(list(self._overdue))}
        return slots | dict(self._held_up) | dict(self._taken)

    def take(self, now: float, most: int) -> list[Due]:
        """Return what is due, ascending, up to so many, and count on settle()."""
        dues = []
        for slot, name in self._overdue[:most]:
            dues.append(self._entries[name].due(slot, now))
        heap = self._heap
        del self._overdue[:most]
        while heap and heap[0][0] <= now and len(dues) < most:
            slot, name = heap[0]
            entry = self._entries[name]
            dues.append(entry.due(slot, now))
            if (following := entry.timetable.after(slot)) is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (following, name))
        return self._noted(dues)

    def take_held_up(self, now: float, steady: float, most: int) -> list[Due]:
        """Return, ascending, what was held up and is to be tried again, of entries enough for so many.

        Of an entry with more than one slot since, as many as its policy says; the others will be in ``dropped``.
        """
        slots: list[tuple[float, str]] = []
        for name in sorted(self._retry_at, key=self._retry_at.__getitem__):
            if self._retry_at[name] > steady or len(slots) >= most:
                break
            entry, held_up = self._entries[name], self._held_up.pop(name)
            del self._retry_at[name]
            due, dropped = self._since(entry, held_up, now)
            slots += [(slot, name) for slot in due]
            self._retried[name] = held_up, dropped
            if not due:
                self._let_go(name)
            if (following := entry.timetable.after(max(held_up, now))) is not None:
                heapq.heappush(self._heap, (following, name))
        return self._noted([self._entries[name].due(slot, now) for slot, name in sorted(slots)])

    def settle(self, dues: Sequence[Due], ticks: Sequence[Tick], steady: float) -> list[str]:
        """Take in what became of what was taken; return the entries that are held up and were not before."""
        held_up: dict[str, float] = {}
        for due, tick in zip(dues, ticks, strict=True):
            if tick is Tick.HELD_UP:
                held_up.setdefault(due.entry, due.slot)
        news = [name for name in held_up if name not in self._tries]
        for name in {due.entry for due in dues} - held_up.keys():
            self._let_go(name)
        for name, slot in held_up.items():
            tries = self._tries[name] = self._tries.get(name, 0) + 1
            self._held_up[name], _ = self._retried.pop(name, (slot, 0))
            self._retry_at[name] = steady + min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** min(tries - 1, 16))
        if held_up:
            # Its later slots wait with it, or they would be recorded before it, and it would be over.
            self._overdue = [pair for pair in self._overdue if pair[1] not in held_up]
            self._heap = [pair for pair in self._heap if pair[1] not in held_up]
            heapq.heapify(self._heap)
        for due in dues:
            self._taken.pop(due.entry, None)
        return news

    def _let_go(self, name: str) -> None:
        """Take in that an entry is held up no more."""
        self._tries.pop(name, None)
        _, dropped = self._retried.pop(name, (0.0, 0))
        if dropped:
            self.dropped[name] = dropped

    def _noted(self, dues: list[Due]) -> list[Due]:
        for due in dues:
            self._taken.setdefault(due.entry, due.slot)
        return dues

    def _since(self, entry: Entry, held_up: float, now: float) -> CatchUp:
        following = entry.timetable.after(held_up)
        if following is None or following > now:
            return CatchUp([held_up], 0)
        return missed(entry.timetable, math.nextafter(held_up, -math.inf), now, entry.misfire, grace=self._grace)
