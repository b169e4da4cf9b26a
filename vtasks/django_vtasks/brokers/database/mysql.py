"""MariaDB and MySQL: SELECT … FOR UPDATE SKIP LOCKED in short transactions."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from django_vtasks.brokers.base import Owner
from django_vtasks.brokers.database.dialect import (
    COLUMNS,
    LOCK_WAIT,
    NOT_PAUSED,
    ClaimedRow,
    Lock,
    NewRow,
    Place,
    Receipt,
    delete_acknowledged,
    delete_idle,
    marks,
    write_transaction,
)
from django_vtasks.db.clock import NOW

_NOW = NOW["mysql"]
IDLE_TRANSACTION = 2
"""Seconds between two statements of a transaction, where our own take milliseconds.

A host that vanishes in the middle of a claim keeps its own lease from being ended for so long.
"""
_DEADLOCK, _CHANGED_SINCE_READ, _LOCK_TIMEOUT = 1213, 1020, 1205

_INSERT = f"INSERT INTO vtasks_task ({COLUMNS}) VALUES ({marks(6)})"

# Read without locks: a key that is refused must stay without a row lock, because the caller's transaction may last, and
# the holder's end would wait for it.
_HELD = f"SELECT lock_key FROM vtasks_lock WHERE (expires IS NULL OR expires > {_NOW}) AND lock_key IN "

# Assignments run from left to right: `expires`, which the conditions read, comes last.
_LOCK = f"""
INSERT INTO vtasks_lock (lock_key, task_id, keep, expires) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE
    task_id = IF(expires <= {_NOW}, VALUES(task_id), task_id),
    keep = IF(expires <= {_NOW}, VALUES(keep), keep),
    expires = IF(expires <= {_NOW}, VALUES(expires), expires)
"""

_NEWS = f"""
SELECT EXISTS (SELECT 1 FROM vtasks_task WHERE state = 0 AND queue = %s),
       EXISTS (SELECT 1 FROM vtasks_task WHERE state = 2 AND queue = %s AND due <= {_NOW}),
       {NOT_PAUSED}
"""

_DUE = f"""
SELECT id FROM vtasks_task WHERE state = 2 AND queue = %s AND due <= {_NOW} ORDER BY due LIMIT 1000
FOR UPDATE SKIP LOCKED
"""

_PICK = """
SELECT id, fence + 1, attempt + 1, crashes, task_id, task_rank, payload
FROM vtasks_task WHERE state = 0 AND queue = %s ORDER BY task_rank, id LIMIT %s FOR UPDATE SKIP LOCKED
"""

_RECORD = """
INSERT INTO vtasks_slot (entry, slot, since) VALUES (%s, %s, %s) ON DUPLICATE KEY UPDATE slot = VALUES(slot)
"""

_NEWS_OF_SUSPECTS = f"SELECT EXISTS (SELECT 1 FROM vtasks_task WHERE state = 3 AND queue = %s) AND {NOT_PAUSED}"
_PICK_SUSPECTS = _PICK.replace("state = 0", "state = 3")


class MySQL:
    """The hot path on MariaDB 10.6 or MySQL 8.0.1 and newer, through mysqlclient."""

    first_pauses: Sequence[float] = (0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128)
    longest_pause = 0.250
    cleared_at_once = 1000

    def prepare(self, connection: BaseDatabaseWrapper, *, lock_wait: int = LOCK_WAIT) -> None:
        """Bound the wait for row locks, and the life of a transaction whose client has vanished without a word.

        MySQL has no bound for the latter: its session, and what it has locked, stays until TCP finds out.
        """
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION innodb_lock_wait_timeout = %s", [lock_wait])
            if connection.mysql_is_mariadb:  # type: ignore[attr-defined] # of this wrapper
                cursor.execute("SET SESSION idle_transaction_timeout = %s", [IDLE_TRANSACTION])

    def push(self, connection: BaseDatabaseWrapper, rows: Sequence[NewRow]) -> set[str]:
        """Take the locks in the order of their keys, which avoids most deadlocks, then insert in bulk."""
        wanted = sorted(row.lock() for row in rows if row.unique is not None)
        with connection.cursor() as cursor:
            free = _free(cursor, wanted) if wanted else []
            if len(wanted) == len(rows) and not free:
                return set()  # without a transaction for it
            if len(rows) == 1 and not wanted:
                cursor.execute(_INSERT, rows[0].values())  # likewise: it is one by itself
                return {rows[0].task_id}
            with write_transaction(connection):
                refused = {task_id for _, task_id, *_ in wanted} - _locked(cursor, free)
                accepted = [row for row in rows if row.task_id not in refused]
                cursor.executemany(_INSERT, [row.values() for row in accepted])
        return {row.task_id for row in accepted}

    def announce(self, connection: BaseDatabaseWrapper, queues: Iterable[str]) -> None:
        """Do nothing: there is no wake-up but polling."""

    def claim(self, connection: BaseDatabaseWrapper, owner: Owner, queue: str, limit: int) -> list[ClaimedRow]:
        """Look without locks first; an idle claim is then one read."""
        with connection.cursor() as cursor:
            cursor.execute(_NEWS, [queue, queue, queue])
            waiting, due, not_paused = cursor.fetchone()
            if not not_paused or not (waiting or due):
                return []
            with write_transaction(connection):
                if due:
                    _promote(cursor, queue)
                return _claim(cursor, _PICK, owner, queue, limit)

    def claim_suspects(self, connection: BaseDatabaseWrapper, owner: Owner, queue: str, limit: int) -> list[ClaimedRow]:
        """Look without locks first."""
        with connection.cursor() as cursor:
            cursor.execute(_NEWS_OF_SUSPECTS, [queue, queue])
            if not cursor.fetchone()[0]:
                return []
            with write_transaction(connection):
                return _claim(cursor, _PICK_SUSPECTS, owner, queue, limit)

    def acknowledge(
        self,
        connection: BaseDatabaseWrapper,
        owner: Owner,
        receipts: Sequence[Receipt],
        *,
        unlock: bool,
    ) -> set[Receipt]:
        """Delete what is still ours under row locks."""
        return delete_acknowledged(connection, owner, receipts, lock="FOR UPDATE", unlock=unlock)

    def clear(
        self, connection: BaseDatabaseWrapper, queue: str, limit: int, newest: int, place: Place | None
    ) -> tuple[int, Place | None]:
        """Delete under row locks."""
        lock, through = "FOR UPDATE SKIP LOCKED", "FORCE INDEX ({})"  # the primary key's order would do without a sort
        return delete_idle(connection, queue, limit, newest, place, lock=lock, through=through)

    def durable_transaction(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        """Open a transaction like any other: nothing is relaxed."""
        return write_transaction(connection)

    def record(self, connection: BaseDatabaseWrapper, slots: Mapping[str, int]) -> None:
        """Insert what is there already, which the driver sends in bulk."""
        with connection.cursor() as cursor:
            cursor.executemany(_RECORD, [(entry, slot, 0) for entry, slot in slots.items()])

    def is_transient(self, error: Exception) -> bool:
        """Tell deadlocks and the like from the rest; a lock time-out has taken its time already, by default 50 s."""
        return bool(error.args) and error.args[0] in {_DEADLOCK, _CHANGED_SINCE_READ}

    def is_lock_timeout(self, error: Exception) -> bool:
        """Tell a lock that was waited for in vain."""
        return bool(error.args) and error.args[0] == _LOCK_TIMEOUT


def _free(cursor: Any, wanted: Sequence[Lock]) -> list[Lock]:
    """Return the locks that nobody seems to hold."""
    cursor.execute(f"{_HELD} ({marks(len(wanted))})", [key for key, *_ in wanted])
    held = {key for (key,) in cursor.fetchall()}
    return [lock for lock in wanted if lock[0] not in held]


def _locked(cursor: Any, wanted: Sequence[Lock]) -> set[str]:
    """Take the locks that are free; return the ids of the tasks that hold one of the keys now."""
    if not wanted:
        return set()
    cursor.execute(f"SELECT {_NOW}")
    (now,) = cursor.fetchone()
    # Plain placeholders only: with an expression among them the driver sends row after row.
    cursor.executemany(_LOCK, [(key, task_id, keep, ttl and now + ttl) for key, task_id, keep, ttl in wanted])
    cursor.execute(
        f"SELECT task_id FROM vtasks_lock WHERE lock_key IN ({marks(len(wanted))})", [key for key, *_ in wanted]
    )
    return {task_id for (task_id,) in cursor.fetchall()}


def _claim(cursor: Any, pick: str, owner: Owner, queue: str, limit: int) -> list[ClaimedRow]:
    """Book what ``pick`` finds on an owner whose node has a lease."""
    cursor.execute("SELECT name FROM vtasks_node WHERE name = %s LOCK IN SHARE MODE", [owner.node])
    if cursor.fetchone() is None:
        return []
    cursor.execute(pick, [queue, limit])
    rows = [ClaimedRow._make(row) for row in cursor.fetchall()]
    if rows:
        cursor.execute(
            "UPDATE vtasks_task SET state = 1, owner = %s, node = %s, fence = fence + 1,"
            f" attempt = attempt + 1 WHERE id IN ({marks(len(rows))})",
            [str(owner), owner.node, *(row.id for row in rows)],
        )
    return rows


def _promote(cursor: Any, queue: str) -> None:
    """Let due rows wait; those of transactions that have not ended are passed over."""
    cursor.execute(_DUE, [queue])
    if ids := [row_id for (row_id,) in cursor.fetchall()]:
        cursor.execute(f"UPDATE vtasks_task SET state = 0 WHERE id IN ({marks(len(ids))})", ids)
