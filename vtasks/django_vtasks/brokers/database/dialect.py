"""What every SQL store says in its own words: the statements of the hot path."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_vtasks.brokers.base import Owner
from django_vtasks.db.clock import microseconds
from django_vtasks.db.models import TaskState
from django_vtasks.envelope import Envelope, Unique

LOCK_WAIT = 5
COLUMNS = "task_id, queue, state, task_rank, due, payload"
NOT_PAUSED = "NOT EXISTS (SELECT 1 FROM vtasks_pause WHERE queue = %s)"
"""What holds when the tasks of a queue may be claimed."""


type Lock = tuple[str, str, bool, int | None]
"""Key, task id, whether it outlives the task, and time to live in microseconds."""


class NewRow(NamedTuple):
    """A task about to be inserted, and its lock."""

    task_id: str
    queue: str
    state: int
    rank: int
    due: int | None
    payload: bytes
    unique: Unique | None

    @classmethod
    def of(cls, envelope: Envelope, payload: bytes) -> "NewRow":
        """Return the row of an envelope; a task with a due time waits as delayed until a claim finds it due."""
        due = microseconds(envelope.run_after)
        state = TaskState.WAITING if due is None else TaskState.DELAYED
        return cls(envelope.id, envelope.queue, int(state), -envelope.priority, due, payload, envelope.unique)

    def values(self) -> tuple[Any, ...]:
        """Return the values of COLUMNS."""
        return self[:6]

    def lock(self) -> Lock:
        """Return the lock of a row that has one."""
        assert self.unique is not None
        return (self.unique.key, self.task_id, self.unique.keep, microseconds(self.unique.ttl))


class ClaimedRow(NamedTuple):
    """A task row after its claim."""

    id: int
    fence: int
    attempt: int
    crashes: int
    task_id: str
    rank: int
    payload: bytes


type Place = tuple[int, ...]
"""Where a dialect has come to in the task table."""
type Receipt = tuple[int, int]
"""The id of a row and its fence at the claim."""


class Dialect(Protocol):
    """The hot path in one database's SQL; every method runs on the calling thread's connection."""

    first_pauses: Sequence[float]
    """Seconds between the first looks of an idle claim, before it waits for a wake-up."""
    longest_pause: float
    """Seconds after which an idle claim looks again even when nothing woke it."""

    cleared_at_once: int
    """Rows that clear() should delete in one transaction at most."""

    def prepare(self, connection: BaseDatabaseWrapper, *, lock_wait: int = LOCK_WAIT) -> None:
        """Set up a fresh connection of the worker, which waits at most ``lock_wait`` seconds for locked rows."""
        ...

    def push(self, connection: BaseDatabaseWrapper, rows: Sequence[NewRow]) -> set[str]:
        """Insert rows whose locks are free; return their task ids. All or none, in the caller's transaction."""
        ...

    def announce(self, connection: BaseDatabaseWrapper, queues: Iterable[str]) -> None:
        """Tell waiting workers, once the transaction commits, that the queues have news."""
        ...

    def claim(self, connection: BaseDatabaseWrapper, owner: Owner, queue: str, limit: int) -> list[ClaimedRow]:
        """Mark up to ``limit`` due rows as the owner's, in any order of return; none without a lease."""
        ...

    def claim_suspects(self, connection: BaseDatabaseWrapper, owner: Owner, queue: str, limit: int) -> list[ClaimedRow]:
        """Mark up to ``limit`` suspects as the owner's, in any order of return; none without a lease."""
        ...

    def acknowledge(
        self,
        connection: BaseDatabaseWrapper,
        owner: Owner,
        receipts: Sequence[Receipt],
        *,
        unlock: bool,
    ) -> set[Receipt]:
        """Delete the rows of (id, fence) receipts that are still the owner's, with their mutexes; return their ids."""
        ...

    def clear(
        self, connection: BaseDatabaseWrapper, queue: str, limit: int, newest: int, place: Place | None
    ) -> tuple[int, Place | None]:
        """Delete up to ``limit`` rows of a queue that do not run and are not newer than the row ``newest``.

        Their locks go with them; a row that is being claimed stays. One transaction. Begin at ``place``, where the last
        call has ended; return how many, and where to go on, or None when there is no more.
        """
        ...

    def durable_transaction(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        """Open a write transaction that outlives a crash as the project's own do, whatever prepare() has relaxed."""
        ...

    def record(self, connection: BaseDatabaseWrapper, slots: Mapping[str, int]) -> None:
        """Write the last slot of entries whose rows the caller has locked."""
        ...

    def is_transient(self, error: Exception) -> bool:
        """Tell whether the same transaction may succeed when tried again at once."""
        ...

    def is_lock_timeout(self, error: Exception) -> bool:
        """Tell whether one row was waited for in vain, so that the same without this row may succeed."""
        ...


@contextmanager
def write_transaction(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Open a transaction that intends to write, or join the caller's."""
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        with transaction.atomic(using=connection.alias):
            yield
        return
    # A deferred transaction that reads before it writes fails at once when another one wrote in between.
    connection.ensure_connection()
    mode, connection.transaction_mode = connection.transaction_mode, "IMMEDIATE"  # type: ignore[attr-defined]
    try:
        with transaction.atomic(using=connection.alias):
            yield
    finally:
        connection.transaction_mode = mode  # type: ignore[attr-defined]


def marks(count: int) -> str:
    """Return ``count`` placeholders, separated by commas."""
    return ", ".join(["%s"] * count)


def delete_acknowledged(
    connection: BaseDatabaseWrapper, owner: Owner, receipts: Sequence[Receipt], *, lock: str, unlock: bool
) -> set[Receipt]:
    """Do what Dialect.acknowledge() says in statements that any database knows."""
    wanted = set(receipts)
    ids = {row_id for row_id, _ in wanted}
    with write_transaction(connection), connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id, fence, task_id FROM vtasks_task WHERE id IN ({marks(len(ids))})"
            f" AND owner = %s AND state = 1 {lock}",
            [*ids, str(owner)],
        )
        ours = {(row_id, fence): task_id for row_id, fence, task_id in cursor.fetchall() if (row_id, fence) in wanted}
        if not ours:
            return set()
        cursor.execute(f"DELETE FROM vtasks_task WHERE id IN ({marks(len(ours))})", [row_id for row_id, _ in ours])
        if unlock:
            free_mutexes(connection, list(ours.values()))
    return set(ours)


# Each state through the index that claims use. The state is no parameter: SQLite could not use its partial indexes.
_DELAYED = """
SELECT id, task_id, due FROM vtasks_task {through} WHERE state = 2 AND queue = %s AND id <= %s AND due >= %s
ORDER BY due LIMIT %s
"""
_OF_RANK = """
SELECT id, task_id FROM vtasks_task {through} WHERE state = {state} AND queue = %s AND id <= %s AND task_rank = %s
AND id > %s ORDER BY id LIMIT %s
"""
_NEXT_RANK = "SELECT MIN(task_rank) FROM vtasks_task WHERE state = {state} AND queue = %s AND task_rank > %s"
# A claim moves delayed rows to those that wait: the delayed come first.
_RANKED = (TaskState.WAITING, TaskState.SUSPECT)
_NO_RANK = -(2**15)


def delete_idle(
    connection: BaseDatabaseWrapper,
    queue: str,
    limit: int,
    newest: int,
    place: Place | None,
    *,
    lock: str,
    through: str = "",
) -> tuple[int, Place | None]:
    """Do what Dialect.clear() says in statements that any database knows.

    ``through`` has the name of an index put in, for a database that would not find it.
    """
    at, *after = place or (0, -(2**63))
    with write_transaction(connection), connection.cursor() as cursor:
        if at == 0:
            statement = _DELAYED.format(through=through.format("vtasks_task_delayed"))
            cursor.execute(f"{statement} {lock}", [queue, newest, *after, limit])
            rows = cursor.fetchall()
            picked = {row_id: task_id for row_id, task_id, _ in rows}
            following: Place | None = (0, rows[-1][2]) if rows else (1, _NO_RANK, 0)
        else:
            statement = _OF_RANK.format(state=int(_RANKED[at - 1]), through=through.format("vtasks_task_waiting"))
            cursor.execute(f"{statement} {lock}", [queue, newest, *after, limit])
            picked = dict(cursor.fetchall())
            following = (at, after[0], max(picked)) if picked else _next_rank(cursor, queue, at, after[0])
        if picked:
            free_locks(connection, list(picked.values()))
            cursor.execute(f"DELETE FROM vtasks_task WHERE id IN ({marks(len(picked))})", list(picked))
    return len(picked), following


def _next_rank(cursor: Any, queue: str, at: int, rank: int) -> Place | None:
    """Return where the next rank begins, in this state or the next."""
    cursor.execute(_NEXT_RANK.format(state=int(_RANKED[at - 1])), [queue, rank])
    (following,) = cursor.fetchone()
    if following is not None:
        return (at, following, 0)
    return (at + 1, _NO_RANK, 0) if at < len(_RANKED) else None


def free_mutexes(connection: BaseDatabaseWrapper, task_ids: Sequence[str]) -> None:
    """Delete the mutexes of tasks inside the caller's transaction."""
    _free_locks(connection, "keep = %s AND ", [False], task_ids)


def free_locks(connection: BaseDatabaseWrapper, task_ids: Sequence[str]) -> None:
    """Delete all locks of tasks inside the caller's transaction."""
    _free_locks(connection, "", [], task_ids)


def _free_locks(
    connection: BaseDatabaseWrapper, condition: str, params: Sequence[Any], task_ids: Sequence[str]
) -> None:
    """Delete locks; one that a transaction of any length is about to take over, as its time is up, is passed over."""
    if not task_ids:
        return
    where = f"WHERE {condition}task_id IN ({marks(len(task_ids))})"
    with connection.cursor() as cursor:
        if not connection.features.has_select_for_update_skip_locked:
            cursor.execute(f"DELETE FROM vtasks_lock {where}", [*params, *task_ids])
            return
        cursor.execute(f"SELECT lock_key, expires IS NOT NULL FROM vtasks_lock {where}", [*params, *task_ids])
        found = cursor.fetchall()
        keys = [key for key, lapses in found if not lapses]
        if lapsing := [key for key, lapses in found if lapses]:
            cursor.execute(
                f"SELECT lock_key FROM vtasks_lock {where} AND lock_key IN ({marks(len(lapsing))})"
                " FOR UPDATE SKIP LOCKED",
                [*params, *task_ids, *lapsing],
            )
            keys += [key for (key,) in cursor.fetchall()]
        if keys:
            cursor.execute(f"DELETE FROM vtasks_lock WHERE lock_key IN ({marks(len(keys))})", keys)
