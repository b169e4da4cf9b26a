"""The tables of one database alias as query sets, and the transaction that writes them."""

from contextlib import AbstractContextManager
from typing import Any

from django.db import connections
from django.db.models import F, QuerySet

from django_vtasks.brokers.database.dialect import write_transaction
from django_vtasks.db.models import FailedRow, LockRow, NodeRow, TaskRow, TaskState


class Tables:
    """What the parts of the broker that go through the ORM have in common."""

    def __init__(self, using: str) -> None:
        self.using = using

    def transaction(self) -> AbstractContextManager[None]:
        """Open a write transaction on the calling thread's connection, or join its own."""
        return write_transaction(connections[self.using])

    def tasks(self, **conditions: Any) -> "QuerySet[TaskRow]":
        """Return the task rows that meet the conditions."""
        return TaskRow.objects.using(self.using).filter(**conditions)

    def locks(self, **conditions: Any) -> "QuerySet[LockRow]":
        """Return the locks that meet the conditions."""
        return LockRow.objects.using(self.using).filter(**conditions)

    def failed(self) -> "QuerySet[FailedRow]":
        """Return the failed list, newest first."""
        return FailedRow.objects.using(self.using).order_by("-id")

    def nodes(self, **conditions: Any) -> "QuerySet[NodeRow]":
        """Return the leases that meet the conditions."""
        return NodeRow.objects.using(self.using).filter(**conditions)

    @staticmethod
    def give_back(rows: "QuerySet[TaskRow]") -> int:
        """Let running rows wait again as if they had not been claimed; return how many."""
        return rows.update(state=TaskState.WAITING, owner=None, node=None, attempt=F("attempt") - 1)
