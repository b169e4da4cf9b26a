"""Who is alive by the database's clock, and what becomes of the tasks of those who are not."""

from django.db.models import F, QuerySet

from django_vtasks import wire
from django_vtasks.brokers.base import Owner, Reclaimed, worker_lost
from django_vtasks.brokers.database.failures import FailedList, Failure
from django_vtasks.brokers.database.tables import Tables
from django_vtasks.db.clock import MICROSECONDS, Now, microseconds
from django_vtasks.db.models import TaskRow, TaskState
from django_vtasks.errors import PayloadError

LOCKS_AT_ONCE = 1000
"""Lapsed locks of throttled tasks that one look deletes."""


class Leases:
    """The coordinator's half of the broker; its methods run on any thread beside the loop."""

    def __init__(self, tables: Tables, failed: FailedList) -> None:
        self._tables = tables
        self._failed = failed

    def renew(self, node: str, ttl: float) -> bool:
        """Extend a lease; False when it had to be made anew."""
        expires = Now() + microseconds(ttl)
        if self._tables.nodes(name=node).update(expires=expires):
            return True
        self._tables.nodes().create(name=node, expires=expires)
        return False

    def has_lease(self, node: str) -> bool:
        """Tell whether nobody has taken the node's lease away."""
        return self._tables.nodes(name=node).exists()

    def leave(self, node: str) -> None:
        """End a lease and give back what its owners hold."""
        with self._tables.transaction():
            self._tables.nodes(name=node).delete()
            self._tables.give_back(self._tables.tasks(node=node, state=TaskState.RUNNING))

    def nodes(self) -> dict[str, float]:
        """Return the seconds left of each lease."""
        left = self._tables.nodes().annotate(left=F("expires") - Now()).values_list("name", "left")
        return {name: microseconds_left / MICROSECONDS for name, microseconds_left in left}

    def reclaim(self, owner: Owner, cause: str) -> Reclaimed:
        """Take back what a dead owner held."""
        with self._tables.transaction():
            return self._rescue(self._tables.tasks(state=TaskState.RUNNING, owner=str(owner)), cause)

    def reclaim_expired(self, cause: str) -> Reclaimed:
        """Take back what owners without a lease held; their nodes, and locks that have lapsed, are gone afterwards."""
        self._drop_lapsed_locks()
        with self._tables.transaction():
            self._tables.nodes(expires__lt=Now()).delete()
            alive = self._tables.nodes().values("name")
            return self._rescue(self._tables.tasks(state=TaskState.RUNNING).exclude(node__in=alive), cause)

    def _drop_lapsed_locks(self) -> None:
        keys = list(self._tables.locks(expires__lt=Now()).values_list("key", flat=True)[:LOCKS_AT_ONCE])
        if keys:
            self._tables.locks(key__in=keys, expires__lt=Now()).delete()

    def _rescue(self, rows: "QuerySet[TaskRow]", cause: str) -> Reclaimed:
        returned: list[TaskRow] = []
        poisoned: list[Failure] = []
        # Without locks first, and only rows that nobody holds after: an enqueue that is not committed would otherwise
        # hold up the thread that keeps the lease.
        ids = list(rows.values_list("id", flat=True))
        for row in rows.filter(id__in=ids).select_for_update(skip_locked=True).order_by("id") if ids else ():
            rescues_left, task = _rescues_left(row)
            row.crashes += 1
            if rescues_left > 0:
                returned.append(row)
            else:
                poisoned.append(Failure(row, worker_lost(cause, row.crashes), task))
        self._tables.tasks(id__in=[row.id for row in returned]).update(
            state=TaskState.WAITING, owner=None, node=None, crashes=F("crashes") + 1
        )
        self._tables.announce({row.queue for row in returned})
        self._failed.take(poisoned)
        return Reclaimed([row.task_id for row in returned], [failure.row.task_id for failure in poisoned])


def _rescues_left(row: TaskRow) -> tuple[int, str]:
    try:
        envelope = wire.decode(bytes(row.payload))
    except PayloadError:
        return 0, ""
    return envelope.max_rescues - row.crashes, envelope.task
