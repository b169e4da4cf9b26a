"""One thread with a database connection of its own; every call has a deadline."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from copy import deepcopy
from queue import SimpleQueue
from typing import Any

from django.db import Error as DatabaseError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

from django_vtasks.errors import BrokerUnavailable

DEADLINE = 12.0
"""Seconds a call may take; a little more than the statement time-out of the server."""

TIMEOUTS = {"postgresql": ["connect_timeout"], "mysql": ["connect_timeout", "read_timeout", "write_timeout"]}
"""The drivers' options, in whole seconds, without which a silent server holds threads and sockets for ever."""

type Call = tuple[Callable[..., Any], tuple[Any, ...], Future[Any]]
type Calls = SimpleQueue[Call | None]


def private_connection(alias: str, deadline: float) -> BaseDatabaseWrapper:
    """Install and return a connection of this thread that shares nothing with the project's own.

    Not from the project's pool: the worker's session settings must not reach the project's queries. Unless the project
    says otherwise, the driver gives up a little before ``deadline`` seconds, so that the thread stays of use.
    """
    settings = deepcopy(connections.settings[alias])
    settings.setdefault("OPTIONS", {}).pop("pool", None)
    settings["CONN_MAX_AGE"] = None
    settings["CONN_HEALTH_CHECKS"] = False
    settings["AUTOCOMMIT"] = True  # whatever the project's queries wait for: what is said here holds at once
    wrapper_class = load_backend(settings["ENGINE"]).DatabaseWrapper
    for option in TIMEOUTS.get(wrapper_class.vendor, ()):
        settings["OPTIONS"].setdefault(
            option, patience(deadline, settings["HOST"] or settings["OPTIONS"].get("host", ""))
        )
    wrapper: BaseDatabaseWrapper = wrapper_class(settings, alias)
    connections[alias] = wrapper
    return wrapper


def patience(deadline: float, hosts: str) -> int:
    """Return the whole seconds that a driver may wait for each host, so that the last is reached in time."""
    return max(1, int(deadline * 3 / 4 / (hosts.count(",") + 1)))


class Gateway:
    """Run functions of a connection in order on a thread of their own.

    ``prepare`` is called with each fresh connection. A function that raises a database error costs the
    connection: the next call opens a new one. A function that exceeds the deadline costs the thread. What nobody
    waits for any more does not begin.
    """

    def __init__(
        self, alias: str, prepare: Callable[[BaseDatabaseWrapper], None], *, deadline: float = DEADLINE
    ) -> None:
        self._alias = alias
        self._prepare = prepare
        self.deadline = deadline
        self._calls: Calls | None = None
        self._lock = threading.Lock()

    def submit[T](self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Queue ``function(connection, *args)``; the future also gets the result of a call nobody waits for."""
        future, _ = self._submit(function, args)
        return future

    def run[T](self, function: Callable[..., T], *args: Any) -> T:
        """Do what call() does for a thread that may block."""
        future, calls = self._submit(function, args)
        wait([future], self.deadline)
        return self._result(future, calls)

    async def call[T](self, function: Callable[..., T], *args: Any, undo: Callable[[T], object] | None = None) -> T:
        """Return ``function(connection, *args)``; raise BrokerUnavailable at the deadline.

        ``undo`` gets the result when it comes too late for the caller, or the caller was cancelled.
        """
        future, calls = self._submit(function, args)
        waiting = asyncio.wrap_future(future)
        try:
            await asyncio.wait([waiting], timeout=self.deadline)
            return self._result(future, calls)
        except (BrokerUnavailable, asyncio.CancelledError):
            if undo is not None:
                future.add_done_callback(lambda late: _undo(late, undo))
            raise
        finally:
            # Drops the call if it has not begun, and keeps asyncio from complaining of an error that nobody has seen.
            if not waiting.cancel() and not waiting.cancelled():
                waiting.exception()

    def _submit[T](self, function: Callable[..., T], args: tuple[Any, ...]) -> tuple[Future[T], Calls]:
        future: Future[T] = Future()
        with self._lock:
            if (calls := self._calls) is None:
                calls = self._calls = SimpleQueue()
                threading.Thread(target=self._serve, args=(calls,), name=f"vtasks-{self._alias}", daemon=True).start()
            calls.put((function, args, future))
        return future, calls

    def _result[T](self, future: Future[T], calls: Calls) -> T:
        """Return the result that has arrived; else give up the call, and the thread that it was queued for."""
        if not future.cancel() and future.done():
            return future.result()
        self._abandon(calls)
        raise BrokerUnavailable(f"Database {self._alias!r} did not answer within {self.deadline:g} s.")

    def abandon(self) -> None:
        """Let the thread end after its current call, however long that takes; the next call starts another."""
        self._abandon(self._calls)

    def _abandon(self, calls: Calls | None) -> None:
        with self._lock:
            if calls is not None and calls is self._calls:
                calls.put(None)
                self._calls = None

    def _serve(self, calls: Calls) -> None:
        connection = private_connection(self._alias, self.deadline)
        while (call := calls.get()) is not None:
            function, args, future = call
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if connection.connection is None:
                    connection.ensure_connection()
                    self._prepare(connection)
                result = function(connection, *args)
            except BaseException as error:  # noqa: BLE001 - the border of the thread: whoever awaits gets it
                if isinstance(error, DatabaseError):
                    _close(connection)
                future.set_exception(error)
            else:
                future.set_result(result)
        _close(connection)


def _undo[T](late: Future[T], undo: Callable[[T], object]) -> None:
    if not late.cancelled() and late.exception() is None:
        undo(late.result())


def _close(connection: BaseDatabaseWrapper) -> None:
    with contextlib.suppress(DatabaseError):
        connection.close()
