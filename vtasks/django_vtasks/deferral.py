"""Enqueue at the commit: for stores that have no part in the transactions of Django's databases."""

import asyncio
import logging
import weakref
from collections.abc import Callable, Sequence
from contextvars import ContextVar

from asgiref.sync import AsyncToSync
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_vtasks import wire
from django_vtasks.brokers.base import Broker
from django_vtasks.envelope import Envelope

logger = logging.getLogger(__name__)

type Announce = Callable[[Sequence[bool]], None]
"""Told at the commit which of some envelopes were accepted."""


def open_transaction() -> BaseDatabaseWrapper | None:
    """Return the calling thread's connection that is in a transaction: the default one, if there are several."""
    found = None
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block and (found is None or connection.alias == DEFAULT_DB_ALIAS):
            found = connection
    return found


def is_called_by_a_thread() -> bool:
    """Tell whether this coroutine runs for a thread that waits for it, which may have a transaction open."""
    # Kept for each asyncio task, for which it does not change: to ask takes longer than to encode a call.
    running = asyncio.current_task()
    task, answer = _answered.get()
    if running is None or task() is not running:
        answer = (
            getattr(AsyncToSync.executors, "current", None) is not None
            or asyncio.get_running_loop() in AsyncToSync.loop_thread_executors
        )
        if running is not None:
            _answered.set((weakref.ref(running), answer))
    return answer


_answered: ContextVar[tuple[Callable[[], object], bool]] = ContextVar(
    "django_vtasks_is_called_by_a_thread", default=(lambda: None, False)
)
"""The asyncio task that asked last, or a former one from whose context this was copied, and the answer."""


def defer(
    connection: BaseDatabaseWrapper, broker: Broker, envelopes: Sequence[Envelope], announce: Announce
) -> list[bool]:
    """Push tasks when the transaction commits, and forget them when it is rolled back, to a savepoint too.

    Return which of them will be pushed: not those whose lock is held, by a task of the store or of this transaction.
    """
    for envelope in envelopes:
        wire.encode(envelope)  # at the commit it would be too late to refuse one
    keys = {envelope.unique.key for envelope in envelopes if envelope.unique is not None}
    taken = _taken(connection, broker, keys) if keys else set()
    wanted = []
    for envelope in envelopes:
        key = None if envelope.unique is None else envelope.unique.key
        wanted.append(key is None or key not in taken)
        if key is not None:
            taken.add(key)
    parcel = [envelope for envelope, is_wanted in zip(envelopes, wanted, strict=True) if is_wanted]
    if parcel:
        _delivery(connection, broker).add(parcel, announce)
    return wanted


class _Delivery:
    """What one part of a transaction enqueues; called when it commits."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.keys: set[str] = set()
        self._envelopes: list[Envelope] = []
        self._parcels: list[tuple[int, Announce]] = []

    def add(self, envelopes: Sequence[Envelope], announce: Announce) -> None:
        self._envelopes += envelopes
        self._parcels.append((len(envelopes), announce))
        self.keys.update(envelope.unique.key for envelope in envelopes if envelope.unique is not None)

    def __call__(self) -> None:
        accepted = self.broker.push(self._envelopes)
        for envelope, is_accepted in zip(self._envelopes, accepted, strict=True):
            if not is_accepted:
                logger.warning(
                    "Task %s id=%s was refused at the commit: an equal one was enqueued meanwhile",
                    envelope.task, envelope.id,
                )  # fmt: skip
        end = 0
        for count, announce in self._parcels:
            begin, end = end, end + count
            announce(accepted[begin:end])


def _taken(connection: BaseDatabaseWrapper, broker: Broker, keys: set[str]) -> set[str]:
    """Return those of the keys that are held, or will be at the commit.

    Django drops from its callbacks what a savepoint's rollback undoes.
    """
    callbacks = [function for _, function, *_ in connection.run_on_commit]
    pending = [function for function in callbacks if isinstance(function, _Delivery) and function.broker is broker]
    return broker.held(keys).union(*(keys & delivery.keys for delivery in pending))


def _delivery(connection: BaseDatabaseWrapper, broker: Broker) -> _Delivery:
    """Return the last callback of the transaction, if it is ours and of the same savepoints, or a new one."""
    if connection.run_on_commit:
        savepoints, function, *_ = connection.run_on_commit[-1]
        if (
            isinstance(function, _Delivery)
            and function.broker is broker
            and savepoints == set(connection.savepoint_ids)
        ):
            return function
    delivery = _Delivery(broker)
    transaction.on_commit(delivery, using=connection.alias)
    return delivery
