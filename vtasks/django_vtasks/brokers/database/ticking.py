"""Slots of the schedule's entries and their tasks, recorded and enqueued in one transaction."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from itertools import batched, compress
from typing import Any, NamedTuple, Protocol

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from django_vtasks import wire
from django_vtasks.brokers.base import Due, Tick
from django_vtasks.brokers.database.dialect import Dialect, NewRow, marks
from django_vtasks.db.clock import MICROSECONDS

AT_ONCE = 1000
"""Dues of one transaction."""

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

    def tick(self, dues: Sequence[Due]) -> list[Tick]:
        """Record slots and enqueue their tasks.

        A unique task that an open transaction is about to enqueue too holds up its own entry only; the others are
        ticked before that is raised.
        """
        items = [Item.of(due) for due in dues]
        ticks: list[Tick] = []
        failure: OperationalError | None = None
        for some in batched(items, AT_ONCE):
            try:
                ticks += self._call(self._tick, some)
            except OperationalError as error:
                if not self._dialect.is_lock_timeout(error):
                    raise
                failure = self._tick_apart(some)
        if failure is not None:
            raise failure
        return ticks

    def _tick_apart(self, items: Sequence[Item]) -> OperationalError | None:
        """Tick the entries of unique tasks each by itself; return the error of one that is still held up."""
        unique = {item.entry for item in items if item.row.unique is not None}
        groups: defaultdict[str | None, list[Item]] = defaultdict(list)
        for item in items:
            groups[item.entry if item.entry in unique else None].append(item)
        failure = None
        for group in groups.values():
            try:
                self._call(self._tick, group)
            except OperationalError as error:
                if not self._dialect.is_lock_timeout(error):
                    raise
                failure = error
        return failure

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
