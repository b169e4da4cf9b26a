"""Who leads, and which slots of a schedule are done."""

from collections.abc import Mapping
from dataclasses import dataclass

from django_vtasks.brokers.base import Standing

MICROSECONDS = 1_000_000


@dataclass(slots=True)
class _Leadership:
    node: str
    expires: float
    number: int


class Leaders:
    """The leader of each role; ``now`` is in seconds on the broker's clock."""

    def __init__(self) -> None:
        self._by_role: dict[str, _Leadership] = {}

    def lead(self, role: str, node: str, expires: float, now: float) -> int | None:
        """Take or keep a role."""
        held = self._by_role.setdefault(role, _Leadership("", 0.0, 0))
        if held.node != node:
            if held.expires > now:
                return None
            held.node = node
            held.number += 1
        held.expires = expires
        return held.number

    def resign(self, role: str, node: str) -> None:
        """Give a role up, if it is the node's."""
        held = self._by_role.get(role)
        if held is not None and held.node == node:
            held.node, held.expires = "", 0.0

    def leader(self, role: str, now: float) -> str | None:
        """Return who leads."""
        held = self._by_role.get(role)
        return held.node if held is not None and held.expires > now else None


@dataclass(slots=True)
class _Entry:
    timetable: str | None
    since: float = 0.0
    last: float | None = None

    def standing(self) -> Standing:
        return Standing(self.since, self.last)


class Ledger:
    """What is registered, and the last slot of each entry; times are in seconds on the broker's clock."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def register(self, entries: Mapping[str, str], now: float) -> dict[str, Standing]:
        """Note the entries, each with its timetable, and forget all others."""
        for name, timetable in entries.items():
            entry = self._entries.setdefault(name, _Entry(None))
            if entry.timetable != timetable:
                entry.timetable, entry.since = timetable, _to_the_microsecond(now)
        for name in self._entries.keys() - entries.keys():
            entry = self._entries[name]
            if entry.last is not None and entry.last > now:
                entry.timetable = None  # should it come back, this slot has been
            else:
                del self._entries[name]
        return {name: self._entries[name].standing() for name in entries}

    def take(self, name: str, slot: float) -> bool:
        """Record a slot; False when it is over, or the entry is not registered."""
        entry, slot = self._entries.get(name), _to_the_microsecond(slot)
        if entry is None or entry.timetable is None:
            return False
        if slot <= entry.since or (entry.last is not None and slot <= entry.last):
            return False
        entry.last = slot
        return True

    def standings(self) -> dict[str, Standing]:
        """Return how each registered entry stands."""
        return {name: entry.standing() for name, entry in self._entries.items() if entry.timetable is not None}


def _to_the_microsecond(seconds: float) -> float:
    return round(seconds * MICROSECONDS) / MICROSECONDS
