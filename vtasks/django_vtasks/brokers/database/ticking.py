"""Slots of the schedule's entries and their tasks, recorded and enqueued in one transaction."""

import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from itertools import batched, compress
from typing import Any, NamedTuple, Protocol

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from django_vtasks import wire
from django_vtasks.brokers.base import Due, Tick
from django_vtasks.brokers.database.dialect import Dialect, NewRow, marks
from django_vtasks.brokers.seldom import Seldom
from django_vtasks.db.clock import MICROSECONDS

logger = logging.getLogger(__name__)

AT_ONCE = 1000
"""Dues of one transaction."""
APART = 2.0
"""Seconds for looking which of the entries of unique tasks is held up, after the first has been: each costs a wait."""

type Push = Callable[[BaseDatabaseWrapper, Sequence[NewRow]], set[str]]


class Call(Protocol):
    """Calls a function that is one transaction with a connection, and again when a deadlock made it fail."""

    def __call__[T](self, function: Callable[..., T], *args: Any) -> T:
        """Return what ``function(connection, *args)`` returns."""
        ...


class Item(NamedTuple):
    """A due, its time in microseconds, and the row of its task."""

    entry: str
    slot: int
    row: NewRow

    @classmethod
    def of(cls, due: Due) -> "Item":
        """Encode a due; raise for one that cannot be."""
        row = NewRow.of(due.envelope, wire.encode(due.envelope))
        return cls(due.entry, round(due.slot * MICROSECONDS), row)


class Ticking:
    """The one way to enqueue a slot: under the lock of its entry's row, which says what has been."""

    def __init__(self, dialect: Dialect, call: Call, push: Push) -> None:
        self._dialect = dialect
        self._call = call
        self._push = push
        self._trouble = Seldom(logger)

    def tick(self, dues: Sequence[Due]) -> list[Tick]:
        """Record slots and enqueue their tasks.

        A unique task that an open transaction is about to enqueue too holds up its own entry only: the entries
        without one do not wait for its lock.
        """
        items = [Item.of(due) for due in dues]
        unique = {item.entry for item in items if item.row.unique is not None}
        ticks: dict[int, Tick] = {}
        try:
            plain = [place for place, item in enumerate(items) if item.entry not in unique]
            for places in batched(plain, AT_ONCE):
                ticks |= self._tick_at(places, items)
            for places in batched([place for place, item in enumerate(items) if item.entry in unique], AT_ONCE):
                self._tick_or_apart(places, items, ticks)
        except Exception as error:
            if not ticks:
                raise
            # Nobody else could tell of these; what fails on and on does so before anything is recorded.
            self._trouble.warning("Slots are held up: %s", _line(error))
        return [ticks.get(place, Tick.HELD_UP) for place in range(len(items))]

    def _tick_at(self, places: Sequence[int], items: Sequence[Item]) -> dict[int, Tick]:
        return dict(zip(places, self._call(self._tick, [items[place] for place in places]), strict=True))

    def _tick_or_apart(self, places: Sequence[int], items: Sequence[Item], ticks: dict[int, Tick]) -> None:
        """Tick the entries of unique tasks, or, where one is held up, each by itself."""
        try:
            ticks |= self._tick_at(places, items)
        except OperationalError as error:
            if not self._dialect.is_lock_timeout(error):
                raise
            self._tick_apart(places, items, ticks)

    def _tick_apart(self, places: Sequence[int], items: Sequence[Item], ticks: dict[int, Tick]) -> None:
        groups: defaultdict[str, list[int]] = defaultdict(list)
        for place in places:
            groups[items[place].entry].append(place)
        until = time.monotonic() + APART
        # In any order, so that none has its turn only after those that are held up.
        for entry in random.sample(list(groups), len(groups)):
            if time.monotonic() >= until:
                break
            try:
                ticks |= self._tick_at(groups[entry], items)
            except OperationalError as error:
                if not self._dialect.is_lock_timeout(error):
                    raise
                reason = "a transaction that is open holds the lock of its unique task"
                self._trouble.warning("The scheduled task %s is held up: %s (%s)", entry, reason, _line(error))

    def _tick(self, connection: BaseDatabaseWrapper, items: Sequence[Item]) -> list[Tick]:
        with self._dialect.durable_transaction(connection):
            over = _over(connection, {item.entry for item in items})
            is_due = []
            for entry, slot, _ in items:
                is_due.append(entry in over and slot > over[entry])
                if is_due[-1]:
                    over[entry] = slot
            due = list(compress(items, is_due))
            enqueued: set[str] = set()
            if due:
                self._dialect.record(connection, {item.entry: item.slot for item in due})
                enqueued = self._push(connection, [item.row for item in due])
        return [
            Tick.TAKEN if not due else Tick.ENQUEUED if item.row.task_id in enqueued else Tick.REFUSED
            for item, due in zip(items, is_due, strict=True)
        ]


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _over(connection: BaseDatabaseWrapper, entries: Collection[str]) -> dict[str, int]:
    """Lock the rows of those entries that are registered; return up to when, in microseconds, their slots have been."""
    lock = "FOR UPDATE" if connection.features.has_select_for_update else ""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT entry, since, slot FROM vtasks_slot"
            f" WHERE timetable IS NOT NULL AND entry IN ({marks(len(entries))}) ORDER BY entry {lock}",
            list(entries),
        )
        return {entry: max(since, slot or since) for entry, since, slot in cursor.fetchall()}
