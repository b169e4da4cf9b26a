"""How long the oldest task of a queue has been due, through the indexes that claims use."""

from collections.abc import Collection, Iterator
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from django_vtasks import wire
from django_vtasks.brokers.database.dialect import marks
from django_vtasks.db.clock import MICROSECONDS, NOW
from django_vtasks.errors import PayloadError

HEAD = 20
"""Rows of each priority that are looked at: one that was delayed stands where its enqueue, not its time, puts it."""

# Of each priority in use the next rows: the index has them in this order. The state is no parameter: a generic plan
# could not use the partial index.
_PRIORITIES = """
WITH RECURSIVE priority (task_rank) AS (
    SELECT MIN(task_rank) FROM vtasks_task WHERE state = {state} AND queue = %s
    UNION ALL
    SELECT (
        SELECT MIN(task_rank) FROM vtasks_task
        WHERE state = {state} AND queue = %s AND task_rank > priority.task_rank
    ) FROM priority WHERE task_rank IS NOT NULL
)
SELECT task_rank FROM priority WHERE task_rank IS NOT NULL
"""
_HEAD = "SELECT id, due FROM vtasks_task WHERE state = {state} AND queue = %s AND task_rank = %s ORDER BY id LIMIT %s"
_DELAYED = "SELECT id, due FROM vtasks_task WHERE state = 2 AND queue = %s AND due <= {now} ORDER BY due LIMIT 1"
_WAITING, _SUSPECT = 0, 3

type _Row = tuple[int, int | None]
"""The id of a row and the time at which it was due, if that was not that of its enqueue."""


def oldest(connection: BaseDatabaseWrapper, queues: Collection[str]) -> dict[str, float]:
    """Return, of each queue where tasks wait, for how many seconds the oldest of them has been due."""
    ages = {}
    with connection.cursor() as cursor:
        for queue in queues:
            if candidates := _candidates(list(_heads(cursor, queue, NOW[connection.vendor]))):
                ages[queue] = _age(cursor, candidates, NOW[connection.vendor])
    return ages


def _heads(cursor: Any, queue: str, now: str) -> Iterator[_Row]:
    for state in (_WAITING, _SUSPECT):
        cursor.execute(_PRIORITIES.format(state=state), [queue, queue])
        for (rank,) in cursor.fetchall():
            cursor.execute(_HEAD.format(state=state), [queue, rank, HEAD])
            yield from cursor.fetchall()
    cursor.execute(_DELAYED.format(now=now), [queue])
    yield from cursor.fetchall()


def _candidates(rows: list[_Row]) -> dict[int, int]:
    """Return the row that came first and the one that was due first, so that two payloads at most are read."""
    came = min((row for row in rows if row[1] is None), default=None)
    was_due = min((row for row in rows if row[1] is not None), key=lambda row: row[1] or 0, default=None)
    return {row_id: due or 0 for row_id, due in filter(None, (came, was_due))}


def _age(cursor: Any, candidates: dict[int, int], now: str) -> float:
    where = f"WHERE id IN ({marks(len(candidates))})"
    cursor.execute(f"SELECT id, {now}, payload FROM vtasks_task {where}", list(candidates))
    ages: list[float] = [
        present / MICROSECONDS - max(_enqueued_at(payload, present), candidates[row_id] / MICROSECONDS)
        for row_id, present, payload in cursor.fetchall()
    ]
    return max([0.0, *ages])


def _enqueued_at(payload: Any, present: int) -> float:
    try:
        return wire.decode(bytes(payload)).enqueued_at
    except PayloadError:
        return present / MICROSECONDS
