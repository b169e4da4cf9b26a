"""PostgreSQL: one statement per step, arrays for bulk, NOTIFY for the wake-up."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_vtasks import wire
from django_vtasks.brokers.base import Owner
from django_vtasks.brokers.database.dialect import (
    LOCK_WAIT,
    NOT_PAUSED,
    ClaimedRow,
    NewRow,
    Place,
    Receipt,
    write_transaction,
)
from django_vtasks.db.clock import NOW

CHANNEL = "vtasks"
NOTIFY_EVERY = 0.008
"""Seconds between two NOTIFY of a process for one queue; a NOTIFY takes a lock of the whole database."""

_NOW = NOW["postgresql"]

# Binary arrays cross the wire once, whatever their length, and keep the order of the envelopes. A key that is refused
# must stay without a row lock: the caller's transaction may last, and the holder's end would wait for it.
_PUSH = f"""
WITH new AS MATERIALIZED (
    SELECT * FROM unnest(%s::text[], %s::text[], %s::smallint[], %s::smallint[], %s::bigint[], %s::bytea[],
                         %s::text[], %s::boolean[], %s::bigint[])
        WITH ORDINALITY AS n(task_id, queue, state, task_rank, due, payload, lock_key, keep, ttl, position)
), lapsed AS (
    UPDATE vtasks_lock AS held SET task_id = new.task_id, keep = new.keep, expires = {_NOW} + new.ttl
    FROM new WHERE held.lock_key = new.lock_key AND held.lock_key = ANY(%s) AND held.expires <= {_NOW}
    RETURNING held.lock_key, held.task_id
), locked AS (
    INSERT INTO vtasks_lock (lock_key, task_id, keep, expires)
    SELECT lock_key, task_id, keep, {_NOW} + ttl FROM new
    WHERE lock_key IS NOT NULL AND lock_key NOT IN (SELECT lock_key FROM lapsed) ORDER BY lock_key
    ON CONFLICT (lock_key) DO NOTHING
    RETURNING task_id
)
INSERT INTO vtasks_task (task_id, queue, state, task_rank, due, payload)
SELECT task_id, queue, state, task_rank, due, payload FROM new
WHERE lock_key IS NULL OR task_id IN (SELECT task_id FROM locked UNION ALL SELECT task_id FROM lapsed)
ORDER BY position
RETURNING task_id
"""

_PUSH_ONE = """
INSERT INTO vtasks_task (task_id, queue, state, task_rank, due, payload) VALUES (%s, %s, %s, %s, %s, %s)
"""

_PUSH_UNIQUE = f"""
WITH lapsed AS (
    UPDATE vtasks_lock SET task_id = %(task)s, keep = %(keep)s, expires = {_NOW} + %(ttl)s
    WHERE lock_key = %(key)s AND expires <= {_NOW}
    RETURNING 1
), locked AS (
    INSERT INTO vtasks_lock (lock_key, task_id, keep, expires)
    SELECT %(key)s, %(task)s, %(keep)s, {_NOW} + %(ttl)s WHERE NOT EXISTS (SELECT 1 FROM lapsed)
    ON CONFLICT (lock_key) DO NOTHING
    RETURNING 1
)
INSERT INTO vtasks_task (task_id, queue, state, task_rank, due, payload)
SELECT %(task)s, %(queue)s, %(state)s, %(rank)s, %(due)s, %(payload)s
WHERE EXISTS (SELECT 1 FROM lapsed) OR EXISTS (SELECT 1 FROM locked)
RETURNING task_id
"""

_PUSH_PLAIN = """
INSERT INTO vtasks_task (task_id, queue, state, task_rank, due, payload)
SELECT task_id, queue, state, task_rank, due, payload
FROM unnest(%s::text[], %s::text[], %s::smallint[], %s::smallint[], %s::bigint[], %s::bytea[])
    AS new(task_id, queue, state, task_rank, due, payload)
"""

_COPY = "COPY vtasks_task (task_id, queue, state, task_rank, due, payload) FROM STDIN (FORMAT BINARY)"
_COPY_TYPES = ("varchar", "varchar", "int2", "int2", "int8", "bytea")
COPY_FROM = 50
"""Rows from which on COPY beats INSERT."""

_PROMOTE = f"""
WITH due AS MATERIALIZED (
    SELECT id FROM vtasks_task WHERE state = 2 AND queue = %s AND due <= {_NOW}
    ORDER BY due LIMIT 1000 FOR UPDATE SKIP LOCKED
)
UPDATE vtasks_task AS task SET state = 0 FROM due WHERE task.id = due.id
"""

# LIMIT inside a materialized CTE: a plain IN (SELECT ... LIMIT) may be evaluated more than once. The state is no
# parameter: a generic plan could not use the partial index.
_CLAIM = f"""
WITH picked AS MATERIALIZED (
    SELECT id FROM vtasks_task WHERE state = 0 AND queue = %s AND {NOT_PAUSED}
    ORDER BY task_rank, id LIMIT %s FOR UPDATE SKIP LOCKED
)
UPDATE vtasks_task AS task
SET state = 1, owner = %s, node = %s, fence = fence + 1, attempt = attempt + 1
FROM picked
WHERE task.id = picked.id AND EXISTS (SELECT 1 FROM vtasks_node WHERE name = %s)
RETURNING task.id, task.fence, task.attempt, task.crashes, task.task_id, task.task_rank, task.payload
"""

_CLAIM_SUSPECTS = _CLAIM.replace("state = 0", "state = 3")

# Asynchronous commit: a lost NOTIFY costs one poll, a synced one holds the lock for a disk write.
_NOTIFY = """
SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, queue) FROM unnest(%s::text[]) AS queue
"""

# `IS TRUE` keeps the planner from the index on the owner, which is full of the owner's finished tasks.
_ACKNOWLEDGE = """
DELETE FROM vtasks_task AS task USING unnest(%s::bigint[], %s::int[]) AS settled(id, fence)
WHERE task.id = settled.id AND task.fence = settled.fence AND (task.owner = %s) IS TRUE AND task.state = 1
RETURNING task.id, task.fence
"""

# A mutex with a time to live may be about to be taken over, by a transaction that nobody shall wait for.
_ACKNOWLEDGE_AND_UNLOCK = """
WITH gone AS (
    DELETE FROM vtasks_task AS task USING unnest(%s::bigint[], %s::int[]) AS settled(id, fence)
    WHERE task.id = settled.id AND task.fence = settled.fence AND (task.owner = %s) IS TRUE AND task.state = 1
    RETURNING task.id, task.fence, task.task_id
), freed AS (
    DELETE FROM vtasks_lock AS held USING gone
    WHERE held.task_id = gone.task_id AND NOT held.keep AND held.expires IS NULL
), lapsing AS MATERIALIZED (
    SELECT held.lock_key FROM vtasks_lock AS held, gone
    WHERE held.task_id = gone.task_id AND NOT held.keep AND held.expires IS NOT NULL FOR UPDATE OF held SKIP LOCKED
), freed_early AS (
    DELETE FROM vtasks_lock AS held USING lapsing WHERE held.lock_key = lapsing.lock_key
)
SELECT id, fence FROM gone
"""

# By their places, in an index's order, each round from where the last one ended: the index still has what is deleted. A
# row that is claimed meanwhile is waited for, and has another state then. Only what may have a lock is looked up among
# the locks, once, of which one that lapses may be about to be taken over, by a transaction that nobody shall wait for.
# `IS TRUE` keeps the planner from the index on the time at which locks lapse, which most do not.
_CLEAR = """
WITH picked AS MATERIALIZED (
    SELECT ctid, task_rank, id, due FROM vtasks_task
    WHERE state = {state} AND queue = %s AND id <= %s AND {after} ORDER BY {order} LIMIT %s
), gone AS (
    DELETE FROM vtasks_task WHERE ctid = ANY (ARRAY(SELECT ctid FROM picked)) AND state = {state}
    RETURNING CASE WHEN position(%s::bytea IN payload) > 0 OR substring(payload FROM 1 FOR 4) = %s::bytea
        THEN task_id END AS task_id
), held AS MATERIALIZED (
    SELECT ctid, lock_key, expires IS NOT NULL AS lapses FROM vtasks_lock
    WHERE task_id = ANY (ARRAY(SELECT task_id FROM gone WHERE task_id IS NOT NULL))
), freed AS (
    DELETE FROM vtasks_lock
    WHERE ctid = ANY (ARRAY(SELECT ctid FROM held WHERE NOT lapses)) AND (expires IS NULL) IS TRUE
), lapsing AS MATERIALIZED (
    SELECT lock_key FROM vtasks_lock WHERE lock_key = ANY (ARRAY(SELECT lock_key FROM held WHERE lapses))
    FOR UPDATE SKIP LOCKED
), freed_early AS (
    DELETE FROM vtasks_lock WHERE lock_key = ANY (ARRAY(SELECT lock_key FROM lapsing))
)
SELECT (SELECT COUNT(*) FROM gone), {last}
"""
_DELAYED = _CLEAR.format(
    state=2, after="due >= %s", order="due", last="(SELECT due FROM picked ORDER BY due DESC LIMIT 1)"
)
_BY_RANK = {
    "after": "(task_rank, id) > (%s, %s)",
    "order": "task_rank, id",
    "last": "last.* FROM (VALUES (0)) AS one LEFT JOIN"
    " (SELECT task_rank, id FROM picked ORDER BY task_rank DESC, id DESC LIMIT 1) AS last ON true",
}
# A claim moves delayed rows to those that wait: the delayed come first. With each the place where it begins.
_IDLE: Sequence[tuple[str, Place]] = (
    (_DELAYED, (-(2**63),)),
    (_CLEAR.format(state=0, **_BY_RANK), (-(2**15), 0)),
    (_CLEAR.format(state=3, **_BY_RANK), (-(2**15), 0)),
)
_BY_INDEX = "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)"

_RECORD = """
UPDATE vtasks_slot AS held SET slot = new.slot FROM unnest(%s::text[], %s::bigint[]) AS new(entry, slot)
WHERE held.entry = new.entry
"""

# Claims and settlements do not wait for the disk: what a crash of the server undoes is run again, never lost
# (docs/adr/0003). A queue's statistics are stale by nature; with them a planner may sort a million rows to claim ten.
_SETTINGS = {
    "synchronous_commit": "off",
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    **dict.fromkeys(("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "jit"), "off"),
    "plan_cache_mode": "force_generic_plan",
}


class PostgreSQL:
    """The hot path on PostgreSQL through psycopg 3."""

    first_pauses: Sequence[float] = (0.008, 0.010)  # covers what NOTIFY_EVERY held back
    longest_pause = 5.0
    cleared_at_once = 5000

    def __init__(self) -> None:
        self._notified: dict[str, float] = {}

    def prepare(self, connection: BaseDatabaseWrapper, *, lock_wait: int = LOCK_WAIT) -> None:
        """Bound every statement in time and pin the plans to the indexes."""
        # One statement: what the project's options let the driver prepare must not be several.
        settings = {**_SETTINGS, "lock_timeout": f"{lock_wait}s"}
        calls = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {calls}")
        if "prepare_threshold" not in connection.settings_dict["OPTIONS"]:
            connection.connection.prepare_threshold = 0

    def push(self, connection: BaseDatabaseWrapper, rows: Sequence[NewRow]) -> set[str]:
        """Insert in one statement, locks included."""
        if len(rows) == 1:
            return self._push_one(connection, rows[0])
        plain = all(row.unique is None for row in rows)
        if plain and len(rows) >= COPY_FROM:
            self._copy(connection, rows)
            return {row.task_id for row in rows}
        columns = [list(column) for column in zip(*(row.values() for row in rows), strict=True)]
        if plain:
            self._execute(connection, _PUSH_PLAIN, columns)
            return {row.task_id for row in rows}
        locks = [(None, None, None) if row.unique is None else (row.lock()[0], *row.lock()[2:]) for row in rows]
        columns += [list(column) for column in zip(*locks, strict=True)]
        keys = [key for key, *_ in locks if key is not None]
        return {task_id for (task_id,) in self._execute(connection, _PUSH, [*columns, keys]).fetchall()}

    def _push_one(self, connection: BaseDatabaseWrapper, row: NewRow) -> set[str]:
        """Insert a row by statements that are planned in half the time of those for many."""
        if row.unique is None:
            self._execute(connection, _PUSH_ONE, row.values())
            return {row.task_id}
        task, queue, state, rank, due, payload = row.values()
        key, _, keep, ttl = row.lock()
        values = {"task": task, "queue": queue, "state": state, "rank": rank, "due": due, "payload": payload}
        cursor = self._execute(connection, _PUSH_UNIQUE, {**values, "key": key, "keep": keep, "ttl": ttl})
        return {task_id for (task_id,) in cursor.fetchall()}

    def announce(self, connection: BaseDatabaseWrapper, queues: Iterable[str]) -> None:
        """NOTIFY after the commit: inside the caller's transaction it would serialise all commits."""
        if not connection.in_atomic_block and not connection.get_autocommit():
            return  # Django does not learn of a commit by hand; the workers look by themselves
        transaction.on_commit(partial(self._notify, connection, set(queues)), using=connection.alias, robust=True)

    def _notify(self, connection: BaseDatabaseWrapper, queues: set[str]) -> None:
        now = time.monotonic()
        due = [queue for queue in queues if now - self._notified.get(queue, 0.0) >= NOTIFY_EVERY]
        if not due:
            return
        self._notified.update(dict.fromkeys(due, now))
        self._execute(
            connection,
            _NOTIFY,
            [CHANNEL, due],
        )

    def claim(self, connection: BaseDatabaseWrapper, owner: Owner, queue: str, limit: int) -> list[ClaimedRow]:
        """Promote what has come due, then claim."""
        self._execute(connection, _PROMOTE, [queue])
        return self._claim(connection, _CLAIM, owner, queue, limit)

    def claim_suspects(self, connection: BaseDatabaseWrapper, owner: Owner, queue: str, limit: int) -> list[ClaimedRow]:
        """Claim through the suspects' own index."""
        return self._claim(connection, _CLAIM_SUSPECTS, owner, queue, limit)

    def _claim(
        self, connection: BaseDatabaseWrapper, statement: str, owner: Owner, queue: str, limit: int
    ) -> list[ClaimedRow]:
        cursor = self._execute(connection, statement, [queue, queue, limit, str(owner), owner.node, owner.node])
        return [ClaimedRow._make(row) for row in cursor.fetchall()]

    def acknowledge(
        self,
        connection: BaseDatabaseWrapper,
        owner: Owner,
        receipts: Sequence[Receipt],
        *,
        unlock: bool,
    ) -> set[Receipt]:
        """Delete what is still ours in one statement."""
        ids, fences = zip(*receipts, strict=True)
        statement = _ACKNOWLEDGE_AND_UNLOCK if unlock else _ACKNOWLEDGE
        cursor = self._execute(connection, statement, [list(ids), list(fences), str(owner)])
        return {(row_id, fence) for row_id, fence in cursor.fetchall()}

    def clear(
        self, connection: BaseDatabaseWrapper, queue: str, limit: int, newest: int, place: Place | None
    ) -> tuple[int, Place | None]:
        """Delete state after state, each through its index."""
        state, *after = place or (0, *_IDLE[0][1])
        owns_transaction = not connection.in_atomic_block
        with write_transaction(connection):
            if owns_transaction:  # the planner's view of somebody else's is not ours to change
                self._execute(connection, _BY_INDEX, [])
            arguments = [queue, newest, *after, limit, wire.SAYS_UNIQUE, wire.ZSTD_MAGIC]
            ((cleared, *last),) = self._execute(connection, _IDLE[state][0], arguments).fetchall()
        if None not in last:
            return cleared, (state, *last)
        return cleared, (state + 1, *_IDLE[state + 1][1]) if state + 1 < len(_IDLE) else None

    @contextmanager
    def durable_transaction(self, connection: BaseDatabaseWrapper) -> Iterator[None]:
        """Wait for the disk as the project's own sessions do."""
        with write_transaction(connection):
            self._execute(connection, "SET LOCAL synchronous_commit TO DEFAULT", [])
            yield

    def record(self, connection: BaseDatabaseWrapper, slots: Mapping[str, int]) -> None:
        """Update in one statement."""
        self._execute(connection, _RECORD, [list(slots), list(slots.values())])

    def is_transient(self, error: Exception) -> bool:
        """Tell serialization failures and deadlocks from the rest; a lock time-out has taken its time already."""
        return getattr(error.__cause__, "sqlstate", None) in {"40001", "40P01"}

    def is_lock_timeout(self, error: Exception) -> bool:
        """Tell a lock that was waited for in vain."""
        return getattr(error.__cause__, "sqlstate", None) == "55P03"

    @staticmethod
    def _copy(connection: BaseDatabaseWrapper, rows: Sequence[NewRow]) -> None:
        """Stream rows, so that the server inserts while the next are being encoded."""
        _connect(connection)
        with connection.wrap_database_errors, psycopg.Cursor(connection.connection).copy(_COPY) as copy:
            copy.set_types(_COPY_TYPES)
            for row in rows:
                copy.write_row(row.values())

    @staticmethod
    def _execute(
        connection: BaseDatabaseWrapper, sql: str, params: Sequence[Any] | Mapping[str, Any]
    ) -> psycopg.Cursor[Any]:
        """Execute with server-side binding, whatever the project's default, so that arrays travel in binary."""
        _connect(connection)
        with connection.wrap_database_errors:
            cursor = psycopg.Cursor(connection.connection)
            return cursor.execute(sql, params)


def _connect(connection: BaseDatabaseWrapper) -> None:
    """Do what Django does before a statement."""
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
