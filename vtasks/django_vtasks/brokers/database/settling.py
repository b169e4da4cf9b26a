"""What became of claims that did not simply succeed; each kind is one transaction."""

from collections.abc import Collection, Iterable, Sequence
from threading import Event

from django.db import DatabaseError, DataError

from django_vtasks.brokers.base import Bury, Owner, Retry
from django_vtasks.brokers.database.dialect import Receipt
from django_vtasks.brokers.database.failures import FailedList, Failure, in_ascii
from django_vtasks.brokers.database.tables import Tables
from django_vtasks.db.clock import from_now
from django_vtasks.db.models import TaskRow, TaskState

_INCORRECT_STRING = 1366
"""MariaDB's and MySQL's code for text that the column's character set does not have."""


class Settling:
    """Settlements of rows that are still the owner's; each method returns the receipts of those that were."""

    def __init__(self, tables: Tables, failed: FailedList) -> None:
        self._tables = tables
        self._failed = failed

    def bury(self, owner: Owner, burials: Sequence[Bury]) -> set[Receipt]:
        """Move rows to the failed list; what a database in Latin-1 or the like refuses, short and in ASCII."""
        try:
            return self._bury(owner, burials)
        except DatabaseError as error:
            if not _is_refused_text(error):
                raise
            return self._bury(owner, [Bury(burial.claim, in_ascii(burial.failure)) for burial in burials])

    def _bury(self, owner: Owner, burials: Sequence[Bury]) -> set[Receipt]:
        by_receipt = {burial.claim.receipt: burial for burial in burials}
        with self._tables.transaction():
            rows = self._held(owner, by_receipt)
            self._failed.take([_failure(row, by_receipt[row.id, row.fence]) for row in rows])
        return {(row.id, row.fence) for row in rows}

    def retry(self, owner: Owner, retries: Sequence[Retry]) -> set[Receipt]:
        """Let rows wait for their next attempt."""
        delays = {retry.claim.receipt: retry.delay for retry in retries}
        with self._tables.transaction():
            rows = self._held(owner, delays)
            for row in rows:
                self._tables.tasks(id=row.id).update(
                    state=TaskState.DELAYED, due=from_now(delays[row.id, row.fence]), owner=None, node=None
                )
            self._tables.announce({row.queue for row in rows})
        return {(row.id, row.fence) for row in rows}

    def release(self, owner: Owner, receipts: Sequence[Receipt]) -> set[Receipt]:
        """Give rows back."""
        with self._tables.transaction():
            rows = self._held(owner, receipts)
            self._tables.give_back(self._tables.tasks(id__in=[row.id for row in rows]))
        return {(row.id, row.fence) for row in rows}

    def keep_only(self, owner: Owner, held: Collection[Receipt], given_up: Event) -> int:
        """Give back what is booked on the owner beyond the receipts ``held``; return how many.

        When the caller has ``given_up`` meanwhile, it may hold more by now.
        """
        with self._tables.transaction():
            booked = self._tables.tasks(owner=str(owner), state=TaskState.RUNNING).select_for_update()
            strays = [receipt[0] for receipt in booked.values_list("id", "fence") if receipt not in held]
            if given_up.is_set():
                return 0
            return self._tables.give_back(self._tables.tasks(id__in=strays)) if strays else 0

    def _held(self, owner: Owner, receipts: Iterable[Receipt]) -> list[TaskRow]:
        wanted = set(receipts)
        rows = self._tables.tasks(id__in=[row_id for row_id, _ in wanted], owner=str(owner), state=TaskState.RUNNING)
        return [row for row in rows.select_for_update() if (row.id, row.fence) in wanted]


def _is_refused_text(error: DatabaseError) -> bool:
    return isinstance(error, DataError) or error.args[:1] == (_INCORRECT_STRING,)


def _failure(row: TaskRow, burial: Bury) -> Failure:
    return Failure(row, burial.failure, burial.claim.envelope.task)
