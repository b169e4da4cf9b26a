"""Counting and clearing queues."""

from collections.abc import Collection
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Count, Max

from django_vtasks import wire
from django_vtasks.brokers.base import Depth, Owner, Running
from django_vtasks.brokers.database.dialect import NOT_PAUSED
from django_vtasks.brokers.database.tables import Tables
from django_vtasks.db.clock import MICROSECONDS, NOW, Now
from django_vtasks.db.models import TaskRow, TaskState
from django_vtasks.envelope import Envelope
from django_vtasks.errors import PayloadError

# The state is no parameter: a generic plan could not use the partial index.
_SUSPECTS = "SELECT queue, COUNT(*) FROM vtasks_task WHERE state = 3 GROUP BY queue"

# Asked by each idle actor every few seconds: without the ORM, which takes ten times as long as the database.
_PROSPECT = """
SELECT EXISTS (SELECT 1 FROM vtasks_node WHERE name = %s),
       (SELECT due - {now} FROM vtasks_task WHERE state = 2 AND queue = %s AND {not_paused} ORDER BY due LIMIT 1)
"""

AT_MOST = 10_000


class Prospect(NamedTuple):
    """Whether a node has its lease, and the seconds until a delayed task is due, if there is one to be claimed then."""

    has_lease: bool
    next_due: float | None


class Census:
    """What stands in the task table."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def depth(self, queue: str) -> Depth:
        """Count the tasks of a queue; a delayed one whose time has come waits, whether or not a claim has seen it."""
        rows = self._tables.tasks(queue=queue)
        counts = dict(rows.values_list("state").annotate(Count("id")))
        due = rows.filter(state=TaskState.DELAYED, due__lte=Now()).count()
        return Depth(
            waiting=counts.get(TaskState.WAITING, 0) + counts.get(TaskState.SUSPECT, 0) + due,
            delayed=counts.get(TaskState.DELAYED, 0) - due,
            running=counts.get(TaskState.RUNNING, 0),
        )

    def glance(self, queue: str) -> Depth:
        """Count no more than AT_MOST tasks in each state: that takes the same time however long the queue is."""
        rows = self._tables.tasks(queue=queue)
        delayed = rows.filter(state=TaskState.DELAYED)
        due = delayed.filter(due__lte=Now())[:AT_MOST].count()
        waiting = sum(rows.filter(state=state)[:AT_MOST].count() for state in (TaskState.WAITING, TaskState.SUSPECT))
        return Depth(
            waiting=waiting + due,
            delayed=delayed[:AT_MOST].count() - due,
            running=rows.filter(state=TaskState.RUNNING)[:AT_MOST].count(),
        )

    def suspects(self, connection: BaseDatabaseWrapper) -> dict[str, int]:
        """Count the suspects of each queue that has any."""
        with connection.cursor() as cursor:
            cursor.execute(_SUSPECTS)
            return dict(cursor.fetchall())

    def held(self, keys: Collection[str]) -> set[str]:
        """Return those of the unique keys whose lock has not lapsed."""
        locks = self._tables.locks(key__in=keys).exclude(expires__lte=Now())
        return set(locks.values_list("key", flat=True))

    def queues(self) -> list[str]:
        """Return the queues that hold tasks."""
        return list(self._tables.tasks().order_by("queue").values_list("queue", flat=True).distinct())

    def running(self, limit: int) -> list[Running]:
        """Return some of the tasks in flight, by owner."""
        rows = self._tables.tasks(state=TaskState.RUNNING).order_by("owner", "id")
        return [_running(row) for row in rows[:limit]]

    def prospect(self, connection: BaseDatabaseWrapper, node: str, queue: str) -> Prospect:
        """Return what an owner of ``node`` that found nothing to claim has to expect."""
        with connection.cursor() as cursor:
            statement = _PROSPECT.format(now=NOW[connection.vendor], not_paused=NOT_PAUSED)
            cursor.execute(statement, [node, queue, queue])
            has_lease, left = cursor.fetchone()
        return Prospect(bool(has_lease), None if left is None else max(0.0, left / MICROSECONDS))

    def newest(self) -> int:
        """Return the id of the newest row."""
        return self._tables.tasks().aggregate(newest=Max("id"))["newest"] or 0


def _running(row: TaskRow) -> Running:
    assert row.owner is not None
    assert row.node is not None
    slot, _, incarnation = row.owner[len(row.node) + 1 :].rpartition(":")
    try:
        envelope = wire.decode(bytes(row.payload))
    except PayloadError:
        envelope = Envelope.unreadable(row.task_id, row.queue)
    envelope = wire.stamped(envelope, attempt=row.attempt, crashes=row.crashes)
    return Running(envelope, Owner(row.node, slot, int(incarnation)), since=None)
