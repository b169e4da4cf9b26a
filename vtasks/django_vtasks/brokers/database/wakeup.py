"""How an idle claim learns that there is work: a signal from the database, and looking again as the fallback."""

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from django.db import connections

from django_vtasks.brokers.database.gateway import patience

logger = logging.getLogger(__name__)

SHORTEST_LOOK, LONGEST_LOOK = 0.005, 1.0
"""Seconds between two looks at SQLite's data version; one costs some 0.2 ms of CPU, nearly all of it for waking up."""
LOOKS_PER_SILENCE = 50
"""The pause before a look is this part of the time since the last work: what comes late is seen a little later."""
OPEN_WITHIN = 10.0
"""Seconds for connecting and LISTEN."""
RECONNECT_EVERY = 5.0
"""Seconds between two attempts to listen again."""


class Wakeup(Protocol):
    """Wakes a claim that found nothing; arm() before looking, wait() after, with what arm() returned.

    Any number of claims may wait for the same queue, each for what happened since its own arm().
    """

    def arm(self, queue: str) -> int:
        """Return a mark of what has happened so far."""
        ...

    async def wait(self, queue: str, since: int, timeout: float) -> bool:
        """Return at the latest after ``timeout`` seconds; True when the database has said that there may be work."""
        ...

    def found(self) -> None:
        """Note that a claim has found work, so that more may follow soon."""
        ...

    def close(self) -> None:
        """Release what arm() opened."""
        ...


class Polling:
    """No signal at all: the time-outs alone."""

    def arm(self, queue: str) -> int:
        """Nothing happens here."""
        return 0

    async def wait(self, queue: str, since: int, timeout: float) -> bool:
        """Sleep."""
        await asyncio.sleep(timeout)
        return False

    def found(self) -> None:
        """Nothing to note."""

    def close(self) -> None:
        """Nothing to release."""


class DataVersion:
    """SQLite: PRAGMA data_version changes with each commit of another connection.

    One timer looks for all queues; often while there is work, seldom after a long silence.
    """

    def __init__(self, alias: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._alias = alias
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._waiters: dict[asyncio.Future[None], int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._found_at = clock()

    def arm(self, queue: str) -> int:
        """Return the version that the next look will be based on."""
        return self._version()

    async def wait(self, queue: str, since: int, timeout: float) -> bool:
        """Wait until a look finds another version."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = since
        if len(self._waiters) == 1:
            self._look_later()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await waiter
        finally:
            del self._waiters[waiter]
        return self._version() != since

    def found(self) -> None:
        """Look often again."""
        self._found_at = self._clock()
        if self._waiters:
            self._look_later()

    def pause(self) -> float:
        """Return the seconds until the next look."""
        silence = self._clock() - self._found_at
        return min(LONGEST_LOOK, max(SHORTEST_LOOK, silence / LOOKS_PER_SILENCE))

    def close(self) -> None:
        """Close the connection that looks."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _look_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self.pause(), self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._waiters:
            return
        version = self._version()
        for waiter, since in self._waiters.items():
            if version != since and not waiter.done():
                waiter.set_result(None)
        self._look_later()

    def _version(self) -> int:
        try:
            if self._connection is None:
                parameters = connections[self._alias].get_connection_params()
                self._connection = sqlite3.connect(
                    parameters["database"], uri=parameters.get("uri", False), timeout=0, isolation_level=None
                )
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            # Locked by a writer that is about to commit, or gone: the claim itself will tell.
            self.close()
            return -1
        return int(version)


class Listener:
    """PostgreSQL: one LISTEN connection per process; its socket is watched by the loop itself."""

    def __init__(self, alias: str, channel: str) -> None:
        self._alias = alias
        self._channel = channel
        self._news: defaultdict[str, int] = defaultdict(int)
        self._waiters: defaultdict[str, set[asyncio.Future[bool]]] = defaultdict(set)
        self._connection: Any = None
        self._unwatch: Callable[[], object] | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._failed = False

    def arm(self, queue: str) -> int:
        """Return how much news there was of the queue, and see to it that further news arrives."""
        if self._connection is None and self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
        return self._news[queue]

    async def wait(self, queue: str, since: int, timeout: float) -> bool:
        """Wait for a notification of the queue; without a connection, look again soon."""
        if self._news[queue] != since:
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters[queue].add(waiter)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout if self._connection is not None else min(timeout, 0.25)):
                    return await waiter
        finally:
            self._waiters[queue].discard(waiter)
        return False

    def found(self) -> None:
        """Nothing to note: notifications come when they come."""

    def close(self) -> None:
        """Stop listening."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self._drop()

    async def _connect(self) -> None:
        opening = _on_thread(self._open)
        try:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(OPEN_WITHIN):
                connection = await asyncio.wrap_future(opening)
            loop.add_reader(connection.fileno(), self._receive)
            fileno = connection.fileno()
            self._unwatch = lambda: loop.remove_reader(fileno)
            self._connection = connection
            self._failed = False
            self._wake_all()
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)
            raise
        except Exception:
            opening.add_done_callback(_close_late)
            if not self._failed:
                logger.warning("Cannot LISTEN on database %s; polling instead", self._alias, exc_info=True)
            self._failed = True
            await asyncio.sleep(RECONNECT_EVERY)
        finally:
            # After close() another attempt may be under way.
            if self._connecting is asyncio.current_task():
                self._connecting = None

    def _open(self) -> Any:
        import psycopg

        parameters = connections[self._alias].get_connection_params()
        for name in ("cursor_factory", "context", "prepare_threshold"):
            parameters.pop(name, None)
        parameters.setdefault("connect_timeout", patience(OPEN_WITHIN, parameters.get("host", "")))
        connection = psycopg.connect(**parameters, autocommit=True)
        try:
            connection.execute(f"LISTEN {self._channel}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _receive(self) -> None:
        import psycopg

        try:
            self._connection.pgconn.consume_input()
            while (notification := self._connection.pgconn.notifies()) is not None:
                self._tell(notification.extra.decode())
        except psycopg.Error as error:
            logger.warning("Lost the LISTEN connection to database %s: %s", self._alias, error)
            self._drop()
            self._wake_all()

    def _tell(self, queue: str) -> None:
        """Note news of a queue, and wake all that wait for it."""
        if queue in self._news:
            self._news[queue] += 1
        for waiter in self._waiters.get(queue, ()):
            if not waiter.done():
                waiter.set_result(True)

    def _wake_all(self) -> None:
        for queue in self._news:
            self._tell(queue)

    def _drop(self) -> None:
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _on_thread[T](function: Callable[[], T]) -> Future[T]:
    """Call a function on a thread of its own, which no exit waits for, however long it hangs."""
    future: Future[T] = Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - the border of the thread: whoever awaits gets it
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="vtasks-listen", daemon=True).start()
    return future


def _close_late(opening: Future[Any]) -> None:
    """Close a connection that nobody waits for any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
