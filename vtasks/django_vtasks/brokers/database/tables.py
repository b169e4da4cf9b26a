"""The tables of one database alias as query sets, and the transaction that writes them."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any

from django.db import connections
from django.db.models import Case, F, QuerySet, When

from django_vtasks.brokers.database.dialect import Dialect, write_transaction
from django_vtasks.db.models import FailedRow, LockRow, NodeRow, TaskRow, TaskState

HANDED_BACK = Case(When(crashes__gt=0, then=TaskState.SUSPECT), default=TaskState.WAITING)
"""The state of a row that nobody holds any more: a task that has crashed waits apart."""


class Tables:
    """What the parts of the broker that go through the ORM have in common."""

    def __init__(self, using: str, dialect: Dialect) -> None:
        self.using = using
        self._dialect = dialect

    def transaction(self) -> AbstractContextManager[None]:
        """Open a write transaction on the calling thread's connection, or join its own."""
        return write_transaction(connections[self.using])

    def tasks(self, **conditions: Any) -> "QuerySet[TaskRow]":
        """Return the task rows that meet the conditions."""
        return TaskRow.objects.using(self.using).filter(**conditions)

    def locks(self, **conditions: Any) -> "QuerySet[LockRow]":
        """Return the locks that meet the conditions."""
        return LockRow.objects.using(self.using).filter(**conditions)

    def failed(self, **conditions: Any) -> "QuerySet[FailedRow]":
        """Return the entries of the failed list that meet the conditions, newest first."""
        return FailedRow.objects.using(self.using).filter(**conditions).order_by("-id")

    def nodes(self, **conditions: Any) -> "QuerySet[NodeRow]":
        """Return the leases that meet the conditions."""
        return NodeRow.objects.using(self.using).filter(**conditions)

    def give_back(self, rows: "QuerySet[TaskRow]") -> int:
        """Let running rows wait again as if they had not been claimed, suspects apart; return how many."""
        queues = set(rows.values_list("queue", flat=True))
        returned = rows.update(state=HANDED_BACK, owner=None, node=None, attempt=F("attempt") - 1)
        self.announce(queues)
        return returned

    def announce(self, queues: Collection[str]) -> None:
        """Tell waiting workers, once the transaction commits, that the queues have news."""
        if queues:
            self._dialect.announce(connections[self.using], queues)
