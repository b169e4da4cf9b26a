"""One thread with a database connection of its own; every call has a deadline."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
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

type Call = tuple[Callable[..., Any], tuple[Any, ...], Future[Any]]


def private_connection(alias: str) -> BaseDatabaseWrapper:
    """Install and return a connection of this thread that shares nothing with the project's own.

    Not from the project's pool: the worker's session settings must not reach the project's queries.
    """
    settings = deepcopy(connections.settings[alias])
    settings.setdefault("OPTIONS", {}).pop("pool", None)
    settings["CONN_MAX_AGE"] = None
    settings["CONN_HEALTH_CHECKS"] = False
    wrapper: BaseDatabaseWrapper = load_backend(settings["ENGINE"]).DatabaseWrapper(settings, alias)
    connections[alias] = wrapper
    return wrapper


class Gateway:
    """Run functions of a connection in order on a thread of their own.

    ``prepare`` is called with each fresh connection. A function that raises a database error costs the
    connection: the next call opens a new one. A function that exceeds the deadline costs the thread.
    """

    def __init__(
        self, alias: str, prepare: Callable[[BaseDatabaseWrapper], None], *, deadline: float = DEADLINE
    ) -> None:
        self._alias = alias
        self._prepare = prepare
        self.deadline = deadline
        self._calls: SimpleQueue[Call | None] | None = None

    def submit[T](self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Queue ``function(connection, *args)``; the future also gets the result of a call nobody waits for."""
        if self._calls is None:
            self._calls = SimpleQueue()
            threading.Thread(target=self._serve, args=(self._calls,), name=f"vtasks-{self._alias}", daemon=True).start()
        future: Future[T] = Future()
        self._calls.put((function, args, future))
        return future

    def run[T](self, function: Callable[..., T], *args: Any) -> T:
        """Do what call() does for a thread that may block."""
        future = self.submit(function, *args)
        try:
            return future.result(self.deadline)
        except TimeoutError as error:
            if future.done():
                raise
            self.abandon()
            raise self._unavailable() from error

    async def call[T](self, function: Callable[..., T], *args: Any, undo: Callable[[T], object] | None = None) -> T:
        """Return ``function(connection, *args)``; raise BrokerUnavailable at the deadline.

        ``undo`` gets the result when it comes too late for the caller, or the caller was cancelled.
        """
        future = self.submit(function, *args)
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), self.deadline)
        except (TimeoutError, asyncio.CancelledError) as error:
            if undo is not None:
                future.add_done_callback(lambda late: late.exception() or undo(late.result()))
            if isinstance(error, asyncio.CancelledError) or future.done():
                raise
            self.abandon()
            raise self._unavailable() from error

    def _unavailable(self) -> BrokerUnavailable:
        return BrokerUnavailable(f"Database {self._alias!r} did not answer within {self.deadline:g} s.")

    def abandon(self) -> None:
        """Let the thread end after its current call, however long that takes; the next call starts another."""
        if self._calls is not None:
            self._calls.put(None)
            self._calls = None

    def _serve(self, calls: SimpleQueue[Call | None]) -> None:
        connection = private_connection(self._alias)
        while (call := calls.get()) is not None:
            function, args, future = call
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


def _close(connection: BaseDatabaseWrapper) -> None:
    with contextlib.suppress(DatabaseError):
        connection.close()
