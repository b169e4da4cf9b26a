"""What becomes of the rows of owners that died."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from django.db.models import QuerySet

from django_vtasks import wire
from django_vtasks.brokers.base import Death, Reclaimed, verdict
from django_vtasks.brokers.database.failures import FailedList, Failure
from django_vtasks.brokers.database.tables import Tables
from django_vtasks.db.models import TaskRow, TaskState
from django_vtasks.errors import PayloadError


class _Crashed(NamedTuple):
    """A row whose crashes count the latest one, its task's dotted path, and whether it is given up."""

    row: TaskRow
    task: str
    buried: bool

    @classmethod
    def of(cls, row: TaskRow, *, alone: bool) -> "_Crashed":
        max_rescues, task = _read(row)
        row.crashes, buried = verdict(row.crashes, max_rescues, alone=alone)
        return cls(row, task, buried)


class Rescue:
    """Take rows back from dead owners; the caller holds the transaction."""

    def __init__(self, tables: Tables, failed: FailedList) -> None:
        self._tables = tables
        self._failed = failed

    def take(self, rows: "QuerySet[TaskRow]", death: Death, *, skip_locked: bool) -> Reclaimed:
        """Return what became of running rows, of one or more owners, that the same death left behind."""
        owners = dict(rows.values_list("id", "owner"))
        held = Counter(owners.values())
        found = self._lock(rows, owners, skip_locked=skip_locked)
        spared = [row for row in found if death.spares(row.task_id)]
        crashed = [
            _Crashed.of(row, alone=death.alone(held[row.owner])) for row in found if not death.spares(row.task_id)
        ]
        suspects = [row for row, _, buried in crashed if not buried]
        poison = [Failure(row, death.failure(row.crashes), task) for row, task, buried in crashed if buried]
        self._tables.give_back(self._tables.tasks(id__in=[row.id for row in spared]))
        self._suspect(suspects)
        self._failed.take(poison)
        return Reclaimed([row.task_id for row in (*spared, *suspects)], [failure.row.task_id for failure in poison])

    def _lock(self, rows: "QuerySet[TaskRow]", ids: Collection[int], *, skip_locked: bool) -> list[TaskRow]:
        # Their ids were read without locks: an enqueue that is not committed would otherwise hold up the thread that
        # keeps the lease.
        return list(rows.filter(id__in=ids).select_for_update(skip_locked=skip_locked).order_by("id")) if ids else []

    def _suspect(self, rows: Sequence[TaskRow]) -> None:
        for crashes in {row.crashes for row in rows}:
            ids = [row.id for row in rows if row.crashes == crashes]
            self._tables.tasks(id__in=ids).update(state=TaskState.SUSPECT, owner=None, node=None, crashes=crashes)
        self._tables.announce({row.queue for row in rows})


def _read(row: TaskRow) -> tuple[int, str]:
    """Return a row's max_rescues and dotted path; what cannot be read is never run again."""
    try:
        envelope = wire.decode(bytes(row.payload))
    except PayloadError:
        return 0, ""
    return envelope.max_rescues, envelope.task
