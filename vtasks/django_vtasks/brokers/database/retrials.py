"""Failed tasks that shall run again."""

import time
from collections.abc import Callable, Sequence

from django.db.backends.base.base import BaseDatabaseWrapper

from django_vtasks import wire
from django_vtasks.brokers.base import Retrial
from django_vtasks.brokers.database.dialect import NewRow, free_locks
from django_vtasks.brokers.database.failures import envelope_of
from django_vtasks.brokers.database.tables import Tables

type Insert = Callable[[BaseDatabaseWrapper, Sequence[NewRow]], set[str]]


class Retrials:
    """Move rows of the failed list back to the task table; ``insert`` adds rows whose locks are free."""

    def __init__(self, tables: Tables, insert: Insert) -> None:
        self._tables = tables
        self._insert = insert

    def retry(self, connection: BaseDatabaseWrapper, task_ids: Sequence[str]) -> dict[str, Retrial]:
        """Move the newest entry of each task, all in one transaction."""
        with self._tables.transaction():
            rows = {
                row.task_id: row for row in self._tables.failed(task_id__in=task_ids).select_for_update().order_by("id")
            }
            envelopes = {task_id: envelope_of(row) for task_id, row in rows.items()}
            again = [envelope.anew(time.time()) for envelope in envelopes.values() if envelope is not None]
            # What is left of a lock that outlived the task's former life is no duplicate.
            free_locks(connection, [envelope.id for envelope in again if envelope.unique is not None])
            former = (bytes(rows[envelope.id].payload) for envelope in again)
            new = list(map(NewRow.of, again, map(wire.encode_anew, again, former)))
            moved = self._insert(connection, new) if new else set()
            self._tables.failed(id__in=[rows[task_id].id for task_id in moved]).delete()
        return {
            task_id: Retrial.UNKNOWN
            if task_id not in rows
            else Retrial.RETRIED
            if task_id in moved
            else Retrial.UNREADABLE
            if envelopes[task_id] is None
            else Retrial.DUPLICATE
            for task_id in task_ids
        }
