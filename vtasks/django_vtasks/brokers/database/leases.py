"""Who is alive by the database's clock, and what becomes of the tasks of those who are not."""

from collections.abc import Collection

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet

from django_vtasks.brokers.base import Death, Owner, Reclaimed
from django_vtasks.brokers.database.rescue import Rescue
from django_vtasks.brokers.database.tables import Tables
from django_vtasks.db.clock import MICROSECONDS, NOW, Now, from_now, microseconds
from django_vtasks.db.models import NodeRow, TaskState

LOCKS_AT_ONCE = 1000
"""Lapsed locks of throttled tasks that one look deletes."""

# What an idle worker asks every few seconds goes without the ORM, which takes ten times as long as the database.
_RENEW = "UPDATE vtasks_node SET expires = {now} + %s WHERE name = %s"
_NODES = "SELECT name, expires - {now} FROM vtasks_node"
_LOST = """
SELECT EXISTS (
    SELECT 1 FROM vtasks_task AS task WHERE state = 1 AND node <> %s
    AND NOT EXISTS (SELECT 1 FROM vtasks_node WHERE name = task.node)
), EXISTS (SELECT 1 FROM vtasks_lock WHERE expires < {now})
"""


class Leases:
    """The coordinator's half of the broker; its methods run on any thread beside the loop."""

    def __init__(self, tables: Tables, rescue: Rescue) -> None:
        self._tables = tables
        self._rescue = rescue
        self.ends = 0
        """How many leases were ended here."""

    def renew(self, node: str, ttl: float, ends: int) -> bool:
        """Extend a lease; False when it had to be made anew.

        ``ends`` is what the attribute was when this was called for: what a slow line has held up until the lease was
        ended makes none, as nobody would end that.
        """
        with self._connection.cursor() as cursor:
            cursor.execute(self._in_time(_RENEW), [microseconds(ttl), node])
            if cursor.rowcount:
                return True
        if ends == self.ends:
            self._tables.nodes().create(name=node, expires=from_now(ttl))
            if ends != self.ends:  # it was ended before this was there to be deleted
                self._tables.nodes(name=node).delete()
        return False

    def leave(self, node: str) -> None:
        """End a lease and give back what its owners hold."""
        self.ends += 1
        with self._tables.transaction():
            self._tables.nodes(name=node).delete()
            self._tables.give_back(self._tables.tasks(node=node, state=TaskState.RUNNING))

    def nodes(self) -> dict[str, float]:
        """Return the seconds left of each lease."""
        with self._connection.cursor() as cursor:
            cursor.execute(self._in_time(_NODES))
            return {name: left / MICROSECONDS for name, left in cursor.fetchall()}

    def publish(self, node: str, report: str) -> None:
        """Note what a node says of itself beside its lease, and be forgotten with it."""
        with self._connection.cursor() as cursor:
            cursor.execute("UPDATE vtasks_node SET report = %s WHERE name = %s", [report, node])

    def reports(self) -> dict[str, str]:
        """Return what each node last said of itself."""
        return {name: report for name, report in self._tables.nodes().values_list("name", "report") if report}

    def reclaim(self, owner: Owner, death: Death) -> Reclaimed:
        """Take back what a dead owner held."""
        with self._tables.transaction():
            rows = self._tables.tasks(state=TaskState.RUNNING, owner=str(owner))
            # Nobody else comes back for a row that is passed over while the node lives.
            return self._rescue.take(rows, death, skip_locked=False)

    def reclaim_expired(self, own: str, cause: str, among: Collection[str] | None) -> Reclaimed:
        """Take back what owners without a lease held, but for the node ``own``; see Coordinator.

        Their nodes, and locks that have lapsed, are gone afterwards.
        """
        with self._connection.cursor() as cursor:
            cursor.execute(self._in_time(_LOST), [own])
            has_lost_tasks, has_lapsed_locks = cursor.fetchone()
        reclaimed = Reclaimed([], [])
        if has_lost_tasks or among is None or among:
            reclaimed = self._take_lost(own, cause, among)
        if has_lapsed_locks:
            self._drop_lapsed_locks()
        return reclaimed

    def _take_lost(self, own: str, cause: str, among: Collection[str] | None) -> Reclaimed:
        with self._tables.transaction():
            lapsed = self._tables.nodes(expires__lt=Now()).exclude(name=own)
            self._end(lapsed if among is None else lapsed.filter(name__in=among))
            alive = self._tables.nodes().values("name")
            lost = self._tables.tasks(state=TaskState.RUNNING).exclude(node=own).exclude(node__in=alive)
            # A row that somebody has locked must not hold up the thread that keeps the lease; the next look takes it.
            return self._rescue.take(lost, Death(cause), skip_locked=True)

    def _end(self, nodes: "QuerySet[NodeRow]") -> None:
        """Delete leases, but for those that a claim holds: that of a host lost in the middle of it ends later."""
        free = nodes.select_for_update(skip_locked=True).values_list("name", flat=True)
        self._tables.nodes(name__in=list(free)).delete()

    def _drop_lapsed_locks(self) -> None:
        """Delete locks whose time is up, but for those that a transaction of any length is about to take over."""
        lapsed = self._tables.locks(expires__lt=Now())
        keys = list(lapsed.values_list("key", flat=True)[:LOCKS_AT_ONCE])
        if not keys:
            return
        with self._tables.transaction():
            free = lapsed.filter(key__in=keys).select_for_update(skip_locked=True)
            self._tables.locks(key__in=list(free.values_list("key", flat=True))).delete()

    @property
    def _connection(self) -> BaseDatabaseWrapper:
        return connections[self._tables.using]

    def _in_time(self, statement: str) -> str:
        return statement.format(now=NOW[self._connection.vendor])
