"""A store and a clock for candidates to meet on: time passes when a test says so, and each host may have it wrong."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from django_vtasks.brokers.base import Due, Tick
from django_vtasks.brokers.memory import MemoryBroker
from django_vtasks.schedule import Misfire, timetable
from django_vtasks.scheduler.candidate import Candidate
from django_vtasks.scheduler.entries import Entry, read

NOON = 1_700_000_000.0 - 1_700_000_000.0 % 86400 + 43200
LEASE = 15.0
UTC = ZoneInfo("UTC")
BASIS = read({"basis": {"task": "tests.app.tasks.add", "schedule": 60}}).entries[0]


class Store(MemoryBroker):
    """Keeps what was enqueued: entry and slot; the calls named in `trouble` raise, those in `lost` after their work.

    Entries in `held_up` are.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self.trouble: dict[str, Exception] = {}
        self.lost: dict[str, Exception] = {}
        self.held_up: set[str] = set()
        self.calls: list[list[Due]] = []
        self.enqueued: list[tuple[str, float]] = []

    def lead(self, role, node, ttl):
        return self._do("lead", super().lead, role, node, ttl)

    def register(self, entries):
        return self._do("register", super().register, entries)

    def resign(self, role, node):
        return self._do("resign", super().resign, role, node)

    def tick(self, dues):
        return self._do("tick", self._tick, dues)

    def _tick(self, dues):
        assert all(one.slot <= other.slot for one, other in pairwise(dues))
        self.calls.append(list(dues))
        free = [due for due in dues if due.entry not in self.held_up]
        verdicts = iter(super().tick(free))
        ticks = [Tick.HELD_UP if due.entry in self.held_up else next(verdicts) for due in dues]
        self.enqueued += [(due.entry, due.slot) for due, tick in zip(dues, ticks, strict=True) if tick is Tick.ENQUEUED]
        return ticks

    def _do(self, name: str, call: Callable[..., Any], *arguments: Any) -> Any:
        if error := self.trouble.get(name):
            raise error
        answer = call(*arguments)
        if error := self.lost.pop(name, None):
            raise error
        return answer


class Stage:
    """One store, one true time, and candidates that take their turns when they have asked to."""

    def __init__(self) -> None:
        self.now = NOON
        self.store = Store(lambda: self.now)
        self.skew: dict[str, float] = {}
        self.told: list[tuple[Due, Tick]] = []
        self.turn_at: dict[str, float] = {}
        self._candidates: dict[str, Candidate] = {}

    def candidate(self, *entries: Entry, node: str = "north") -> Candidate:
        """Let a candidate join, or one of the same name take its place."""
        self.skew.setdefault(node, 0.0)
        candidate = Candidate(
            self.store,
            entries,
            node=node,
            lease=LEASE,
            tell=lambda dues, ticks: self.told.extend(zip(dues, ticks, strict=True)),
            clock=lambda: self.now + self.skew[node],
            monotonic=lambda: self.now,
        )
        self._candidates[node] = candidate
        self.turn_at[node] = self.now
        return candidate

    def stall(self, node: str, seconds: float) -> None:
        """Let a candidate have no turn for some time."""
        self.turn_at[node] = self.now + seconds

    def run(self, seconds: float) -> None:
        """Let time pass, and everybody have their turns in it."""
        end = self.now + seconds
        while (at := min(self.turn_at.values())) <= end:
            node = min(self.turn_at, key=self.turn_at.__getitem__)
            self.now = max(self.now, at)
            self.turn_at[node] = self.now + max(self._candidates[node].turn(), 0.001)
        self.now = end

    def slots(self, entry: str = "tick") -> list[float]:
        """Return the slots of an entry that were enqueued, in seconds since noon."""
        return [round(slot - NOON, 6) for name, slot in self.store.enqueued if name == entry]


def an_entry(
    name: str = "tick", schedule: Any = 10, *, misfire: Misfire = Misfire.LATEST, zone: ZoneInfo = UTC
) -> Entry:
    """Return an entry that adds; its slots are those of a schedule."""
    return Entry(
        name=name, task=BASIS.task, template=BASIS.template, timetable=timetable(schedule, zone), misfire=misfire
    )
