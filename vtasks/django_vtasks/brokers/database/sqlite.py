"""SQLite: short immediate transactions under the one write lock."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from django_vtasks.brokers.base import Owner
from django_vtasks.brokers.database.dialect import (
    COLUMNS,
    LOCK_WAIT,
    NOT_PAUSED,
    ClaimedRow,
    NewRow,
    Place,
    Receipt,
    delete_acknowledged,
    delete_idle,
    marks,
    write_transaction,
)
from django_vtasks.db.clock import NOW

_NOW = NOW["sqlite"]

_INSERT = f"INSERT INTO vtasks_task ({COLUMNS}) VALUES ({marks(6)})"

_LOCK = f"""
INSERT INTO vtasks_lock AS held (lock_key, task_id, keep, expires) VALUES (%s, %s, %s, {_NOW} + %s)
ON CONFLICT (lock_key) DO UPDATE SET task_id = excluded.task_id, keep = excluded.keep, expires = excluded.expires
    WHERE held.expires <= {_NOW}
RETURNING task_id
"""

_HELD = f"SELECT 1 FROM vtasks_lock WHERE lock_key = %s AND (expires IS NULL OR expires > {_NOW})"

_NEWS = f"""
SELECT (
    EXISTS (SELECT 1 FROM vtasks_task WHERE state = 0 AND queue = %s)
    OR EXISTS (SELECT 1 FROM vtasks_task WHERE state = 2 AND queue = %s AND due <= {_NOW})
) AND {NOT_PAUSED}
"""

_PROMOTE = f"UPDATE vtasks_task SET state = 0 WHERE state = 2 AND queue = %s AND due <= {_NOW}"

_CLAIM = """
UPDATE vtasks_task SET state = 1, owner = %s, node = %s, fence = fence + 1, attempt = attempt + 1
WHERE id IN (SELECT id FROM vtasks_task WHERE state = 0 AND queue = %s ORDER BY task_rank, id LIMIT %s)
    AND EXISTS (SELECT 1 FROM vtasks_node WHERE name = %s)
RETURNING id, fence, attempt, crashes, task_id, task_rank, payload
"""

_RECORD = "UPDATE vtasks_slot SET slot = %s WHERE entry = %s"

_NEWS_OF_SUSPECTS = f"SELECT EXISTS (SELECT 1 FROM vtasks_task WHERE state = 3 AND queue = %s) AND {NOT_PAUSED}"
_CLAIM_SUSPECTS = _CLAIM.replace("state = 0", "state = 3")


class SQLite:
    """The hot path on SQLite 3.35 or newer."""

    first_pauses: Sequence[float] = ()
    longest_pause = 15.0
    cleared_at_once = 1000

    def __init__(self) -> None:
        self._relaxed_from: int | None = None

    def prepare(self, connection: BaseDatabaseWrapper, *, lock_wait: int = LOCK_WAIT) -> None:
        """Relax the disk sync where the write-ahead log keeps the file whole without it."""
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode")
            if cursor.fetchone()[0] == "wal":
                cursor.execute("PRAGMA synchronous")
                self._relaxed_from = cursor.fetchone()[0]
                cursor.execute("PRAGMA synchronous = NORMAL")

    def push(self, connection: BaseDatabaseWrapper, rows: Sequence[NewRow]) -> set[str]:
        """Insert row after row; one transaction makes it one write to disk."""
        if _is_refused(connection, rows):
            return set()
        with write_transaction(connection), connection.cursor() as cursor:
            accepted = []
            for row in rows:
                if row.unique is not None:
                    cursor.execute(_LOCK, row.lock())
                    if not cursor.fetchall():
                        continue
                accepted.append(row)
            cursor.executemany(_INSERT, [row.values() for row in accepted])
        return {row.task_id for row in accepted}

    def announce(self, connection: BaseDatabaseWrapper, queues: Iterable[str]) -> None:
        """Do nothing: the commit itself is seen by the wake-up."""

    def claim(self, connection: BaseDatabaseWrapper, owner: Owner, queue: str, limit: int) -> list[ClaimedRow]:
        """Look before taking the write lock, so that idle workers do not hold up those who enqueue."""
        with connection.cursor() as cursor:
            cursor.execute(_NEWS, [queue, queue, queue])
            if not cursor.fetchone()[0]:
                return []
            with write_transaction(connection):
                cursor.execute(_PROMOTE, [queue])
                return _claim(cursor, _CLAIM, owner, queue, limit)

    def claim_suspects(self, connection: BaseDatabaseWrapper, owner: Owner, queue: str, limit: int) -> list[ClaimedRow]:
        """Look before taking the write lock."""
        with connection.cursor() as cursor:
            cursor.execute(_NEWS_OF_SUSPECTS, [queue, queue])
            if not cursor.fetchone()[0]:
                return []
            with write_transaction(connection):
                return _claim(cursor, _CLAIM_SUSPECTS, owner, queue, limit)

    def acknowledge(
        self,
        connection: BaseDatabaseWrapper,
        owner: Owner,
        receipts: Sequence[Receipt],
        *,
        unlock: bool,
    ) -> set[Receipt]:
        """Delete what is still ours under the write lock."""
        return delete_acknowledged(connection, owner, receipts, lock="", unlock=unlock)

    def clear(
        self, connection: BaseDatabaseWrapper, queue: str, limit: int, newest: int, place: Place | None
    ) -> tuple[int, Place | None]:
        """Delete under the write lock."""
        return delete_idle(connection, queue, limit, newest, place, lock="")

    @contextmanager
    def durable_transaction(self, connection: BaseDatabaseWrapper) -> Iterator[None]:
        """Wait for the disk as the project's own connections do."""
        if self._relaxed_from is None:
            with write_transaction(connection):
                yield
            return
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA synchronous = {self._relaxed_from}")
            try:
                with write_transaction(connection):
                    yield
            finally:
                cursor.execute("PRAGMA synchronous = NORMAL")

    def record(self, connection: BaseDatabaseWrapper, slots: Mapping[str, int]) -> None:
        """Update row after row."""
        with connection.cursor() as cursor:
            cursor.executemany(_RECORD, [(slot, entry) for entry, slot in slots.items()])

    def is_transient(self, error: Exception) -> bool:
        """Return False: a lock that outlasts the busy time-out will not be free a moment later."""
        return False

    def is_lock_timeout(self, error: Exception) -> bool:
        """Return False: the one lock is for the whole file."""
        return False


def _is_refused(connection: BaseDatabaseWrapper, rows: Sequence[NewRow]) -> bool:
    """Tell whether the lock of a single row is seen to be held: then nobody needs to wait for the write lock.

    Not in the caller's transaction, which may show what was held when it began.
    """
    if len(rows) != 1 or rows[0].unique is None or connection.in_atomic_block or not connection.get_autocommit():
        return False
    with connection.cursor() as cursor:
        cursor.execute(_HELD, [rows[0].unique.key])
        return cursor.fetchone() is not None


def _claim(cursor: Any, statement: str, owner: Owner, queue: str, limit: int) -> list[ClaimedRow]:
    cursor.execute(statement, [str(owner), owner.node, queue, limit, owner.node])
    return [ClaimedRow._make(row) for row in cursor.fetchall()]
