"""How an idle claim learns that there is work: a signal from the database, and looking again as the fallback."""

import asyncio
import contextlib
import logging
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from django.db import connections

logger = logging.getLogger(__name__)

DATA_VERSION_EVERY = 0.015
"""Seconds between two looks at SQLite's data version: 50 µs of CPU a second, half of it as latency."""
RECONNECT_EVERY = 5.0
"""Seconds between two attempts to listen again."""


class Wakeup(Protocol):
    """Wakes a claim that found nothing; arm() before looking, wait() after."""

    def arm(self, queue: str) -> None:
        """Forget what happened before now."""
        ...

    async def wait(self, queue: str, timeout: float) -> bool:
        """Return at the latest after ``timeout`` seconds; True when the database has said that there may be work."""
        ...

    def close(self) -> None:
        """Release what arm() opened."""
        ...


class Polling:
    """No signal at all: the time-outs alone."""

    def arm(self, queue: str) -> None:
        """Nothing to forget."""

    async def wait(self, queue: str, timeout: float) -> bool:
        """Sleep."""
        await asyncio.sleep(timeout)
        return False

    def close(self) -> None:
        """Nothing to release."""


class DataVersion:
    """SQLite: PRAGMA data_version changes with each commit of another connection, and costs microseconds."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._connection: sqlite3.Connection | None = None
        self._seen: dict[str, int] = {}

    def arm(self, queue: str) -> None:
        """Remember the version that the next look will be based on."""
        self._seen[queue] = self._version()

    async def wait(self, queue: str, timeout: float) -> bool:
        """Look at the version until it changes."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        # The change happens in another process, which can set no Event here.
        while self._version() == self._seen[queue] and (left := deadline - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(DATA_VERSION_EVERY, left))
        return self._version() != self._seen[queue]

    def close(self) -> None:
        """Close the connection that looks."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

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
        self._events: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._connection: Any = None
        self._unwatch: Callable[[], object] | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._failed = False
        self._opener = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vtasks-listen")

    def arm(self, queue: str) -> None:
        """Forget earlier notifications, and see to it that further ones arrive."""
        self._events[queue].clear()
        if self._connection is None and self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())

    async def wait(self, queue: str, timeout: float) -> bool:
        """Wait for a notification of the queue; without a connection, look again soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout if self._connection is not None else min(timeout, 0.25)):
                return await self._events[queue].wait()
        return False

    def close(self) -> None:
        """Stop listening."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self._drop()
        self._events.clear()

    async def _connect(self) -> None:
        opening = self._opener.submit(self._open)
        try:
            loop = asyncio.get_running_loop()
            connection = await asyncio.shield(asyncio.wrap_future(opening))
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
            if not self._failed:
                logger.warning("Cannot LISTEN on database %s; polling instead", self._alias, exc_info=True)
            self._failed = True
            await asyncio.sleep(RECONNECT_EVERY)
        finally:
            self._connecting = None

    def _open(self) -> Any:
        import psycopg

        parameters = connections[self._alias].get_connection_params()
        for name in ("cursor_factory", "context", "prepare_threshold"):
            parameters.pop(name, None)
        parameters.setdefault("connect_timeout", 5)
        connection = psycopg.connect(**parameters, autocommit=True)
        connection.execute(f"LISTEN {self._channel}")
        return connection

    def _receive(self) -> None:
        import psycopg

        try:
            self._connection.pgconn.consume_input()
            while (notification := self._connection.pgconn.notifies()) is not None:
                self._events[notification.extra.decode()].set()
        except psycopg.Error as error:
            logger.warning("Lost the LISTEN connection to database %s: %s", self._alias, error)
            self._drop()
            self._wake_all()

    def _wake_all(self) -> None:
        for event in self._events.values():
            event.set()

    def _drop(self) -> None:
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _close_late(opening: Future[Any]) -> None:
    """Close a connection that nobody waits for any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
