"""What every SQL store says in its own words: the statements of the hot path."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_vtasks.brokers.base import Owner
from django_vtasks.db.clock import microseconds
from django_vtasks.db.models import TaskState
from django_vtasks.envelope import Envelope, Unique

COLUMNS = "task_id, queue, state, task_rank, due, payload"


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


type Receipt = tuple[int, int]
"""The id of a row and its fence at the claim."""


class Dialect(Protocol):
    """The hot path in one database's SQL; every method runs on the calling thread's connection."""

    first_pauses: Sequence[float]
    """Seconds between the first looks of an idle claim, before it waits for a wake-up."""
    longest_pause: float
    """Seconds after which an idle claim looks again even when nothing woke it."""

    def prepare(self, connection: BaseDatabaseWrapper) -> None:
        """Set up a fresh connection of the worker."""
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

    def is_transient(self, error: Exception) -> bool:
        """Tell whether the same transaction may succeed when tried again at once."""
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
            cursor.execute(
                f"DELETE FROM vtasks_lock WHERE keep = %s AND task_id IN ({marks(len(ours))})",
                [False, *ours.values()],
            )
    return set(ours)
