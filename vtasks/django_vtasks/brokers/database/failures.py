"""The failed list: a capped table that knows how many entries the cap has cost."""

import itertools
from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec
from django.db import connections
from django.db.models import F

from django_vtasks import wire
from django_vtasks.brokers.base import FailedTask, TaskFailure
from django_vtasks.brokers.database.dialect import free_mutexes
from django_vtasks.brokers.database.tables import Tables
from django_vtasks.db.clock import MICROSECONDS, Now
from django_vtasks.db.models import CounterRow, FailedRow, TaskRow
from django_vtasks.envelope import Envelope
from django_vtasks.errors import PayloadError

EVICTIONS = "evictions"
SHORT, LONG = 2_000, 16_000
"""Characters kept of each line, and of the end of a traceback, when the database has refused the whole."""
AT_ONCE = 50
"""Rows of one INSERT: with the longest tracebacks they stay below MariaDB's default packet of 16 MiB."""

IDS_AT_ONCE = 500
"""Entries that one transaction deletes or moves."""


class Failure(NamedTuple):
    """A task row with what brought it to its end; ``task`` is the dotted path, empty when unknown."""

    row: TaskRow
    reason: TaskFailure
    task: str


class FailedList:
    """Failed tasks in the order of their failing, at most ``cap`` of them."""

    def __init__(self, tables: Tables, cap: int) -> None:
        self._tables = tables
        self._cap = cap

    def take(self, failures: Sequence[Failure]) -> None:
        """Move task rows here and free their mutexes; the caller holds the transaction and the rows."""
        if not failures:
            return
        FailedRow.objects.using(self._tables.using).bulk_create(
            [_entry(failure) for failure in failures], batch_size=AT_ONCE
        )
        self._tables.tasks(id__in=[failure.row.id for failure in failures]).delete()
        free_mutexes(connections[self._tables.using], [failure.row.task_id for failure in failures])
        self._trim()

    def newest(self, limit: int, queue: str | None) -> list[FailedTask]:
        """Return the newest entries, newest first."""
        rows = self._tables.failed() if queue is None else self._tables.failed(queue=queue)
        return [_failed_task(row) for row in rows.defer("payload")[:limit]]

    def ids(self) -> list[str]:
        """Return the ids of all entries, oldest first."""
        return list(dict.fromkeys(self._tables.failed().order_by("id").values_list("task_id", flat=True)))

    def find(self, task_id: str) -> FailedTask | None:
        """Return the newest entry of a task with its envelope."""
        row = self._tables.failed(task_id=task_id).first()
        return None if row is None else msgspec.structs.replace(_failed_task(row), envelope=envelope_of(row))

    def delete(self, task_ids: Collection[str]) -> set[str]:
        """Delete the entries of tasks; return the ids of those that there were."""
        found: set[str] = set()
        for some in itertools.batched(dict.fromkeys(task_ids), IDS_AT_ONCE):
            with self._tables.transaction():
                rows = self._tables.failed(task_id__in=some).select_for_update().order_by("id")
                ids = dict(rows.values_list("id", "task_id"))
                self._tables.failed(id__in=list(ids)).delete()
            found.update(ids.values())
        return found

    def count(self) -> int:
        """Return the number of entries."""
        return self._tables.failed().count()

    def clear(self) -> int:
        """Delete all entries; return how many there were."""
        deleted, _ = self._tables.failed().delete()
        return deleted

    def evictions(self) -> int:
        """Return how many entries the cap has cost so far."""
        counters = CounterRow.objects.using(self._tables.using).filter(name=EVICTIONS)
        return counters.values_list("value", flat=True).first() or 0

    def _trim(self) -> None:
        excess = self._tables.failed().values_list("id", flat=True)[self._cap : self._cap + 1].first()
        if excess is None:
            return
        evicted, _ = self._tables.failed().filter(id__lte=excess).delete()
        counters = CounterRow.objects.using(self._tables.using)
        counters.get_or_create(name=EVICTIONS)
        counters.filter(name=EVICTIONS).update(value=F("value") + evicted)


def _entry(failure: Failure) -> FailedRow:
    return FailedRow(
        task_id=failure.row.task_id,
        queue=failure.row.queue,
        task=_storable(failure.task),
        exception=_storable(failure.reason.exception),
        message=_storable(failure.reason.message),
        traceback=_storable(failure.reason.traceback),
        failed_at=Now(),
        attempts=failure.row.attempt,
        crashes=failure.row.crashes,
        payload=failure.row.payload,
    )


def _failed_task(row: FailedRow) -> FailedTask:
    return FailedTask(
        id=row.task_id,
        queue=row.queue,
        task=row.task,
        failure=TaskFailure(row.exception, row.message, row.traceback),
        failed_at=row.failed_at / MICROSECONDS,
        attempts=row.attempts,
        crashes=row.crashes,
    )


def envelope_of(row: FailedRow) -> Envelope | None:
    """Return the task of an entry, or None when it cannot be read."""
    try:
        envelope = wire.decode(bytes(row.payload))
    except PayloadError:
        return None
    return wire.stamped(envelope, attempt=row.attempts, crashes=row.crashes)


def in_ascii(failure: TaskFailure) -> TaskFailure:
    """Return a failure that any database stores."""
    return TaskFailure(
        *(
            text.encode("ascii", "backslashreplace").decode()[part]
            for text, part in (
                (failure.exception, slice(SHORT)),
                (failure.message, slice(SHORT)),
                (failure.traceback, slice(-LONG, None)),
            )
        )
    )


def _storable(text: str) -> str:
    """Escape what PostgreSQL does not store: NUL and lone surrogates."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
