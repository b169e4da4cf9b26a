"""The connections of threads: each call has one for itself.

As with pipes, the driver connects, and the bytes then are read here: its own client takes as long for a call as the
server.
"""

import select
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import valkey
from libvalkey import Reader
from valkey.exceptions import ConnectionError as ValkeyConnectionError
from valkey.exceptions import InvalidResponse

from django_vtasks.brokers.valkey.connector import CONNECTIONS, DEADLINE, FREE_WITHIN, IDLE, Connector
from django_vtasks.brokers.valkey.request import Request
from django_vtasks.brokers.valkey.spin import AT_MOST, Trials
from django_vtasks.brokers.valkey.threads import left

READ_AT_ONCE = 64 * 1024
"""Bytes."""


class Lines:
    """As many connections to one server as threads need at the same time, up to CONNECTIONS."""

    def __init__(self, connector: Connector) -> None:
        self._pool = connector.pool_of_threads()
        self._free: deque[_Line] = deque()
        # A semaphore, which is written in Python, takes several times as long.
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(CONNECTIONS):
            self._places.put(None)
        self._is_retired = False
        # Many threads that are awake would keep each other, and other processes, from running.
        self._awake = threading.Lock()

    def exchange(self, request: Request, meanwhile: Callable[[], object] | None) -> list[Any]:
        """Send a request; return its answers, errors of the server among them; see Link.send()."""
        try:
            self._places.get(timeout=left(FREE_WITHIN))
        except Empty:
            raise ValkeyConnectionError(f"all {CONNECTIONS} connections of this process are in use") from None
        try:
            line = self._take()
            try:
                answers = line.exchange(request, meanwhile)
            except BaseException as error:
                line.close()  # what the server still says there is nobody's business
                if isinstance(error, TimeoutError):
                    self._close_free()  # the way there may be gone for all
                raise
            self._free.append(line)
            if self._is_retired:
                self.retire()
            return answers
        finally:
            self._places.put(None)

    def retire(self) -> None:
        """Close each connection when it has its answer."""
        self._is_retired = True
        self._close_free()

    def _close_free(self) -> None:
        while (line := self._pop()) is not None:
            line.close()

    def _pop(self) -> "_Line | None":
        try:
            return self._free.pop()
        except IndexError:
            return None

    def _take(self) -> "_Line":
        while (line := self._pop()) is not None:
            if line.is_fresh:
                return line
            line.close()
        return _Line(self._pool.make_connection(), self._awake)


class _Line:
    def __init__(self, connection: valkey.Connection, awake: threading.Lock) -> None:
        connection.connect()
        self._connection = connection
        self._socket = connection._sock  # noqa: SLF001 - the driver has no other way to it
        self._reader = Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,  # noqa: SLF001 - nor to its errors
            notEnoughData=_NOTHING,
        )
        self._buffer = bytearray(READ_AT_ONCE)
        self._timeout: float | None = None
        self._used_at = time.monotonic()
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._trials = Trials()
        self._awake = awake

    @property
    def is_fresh(self) -> bool:
        """Tell whether the way there is sure to be open: a server that ends says so."""
        return time.monotonic() - self._used_at < IDLE and not self._poll.poll(0)

    def exchange(self, request: Request, meanwhile: Callable[[], object] | None) -> list[Any]:
        self._used_at = time.monotonic()
        self._set_timeout()
        self._socket.sendall(request.packed)
        if meanwhile is None:
            return self._answers(request)
        meanwhile()
        if self._trials.begin() and self._awake.acquire(blocking=False):
            try:
                self._stay_awake()
            finally:
                self._awake.release()
        answers = self._answers(request)
        self._trials.end()
        return answers

    def close(self) -> None:
        self._connection.disconnect()

    def _stay_awake(self) -> None:
        """Be there when the answer comes, unless that takes long; other threads run meanwhile."""
        until, poll = time.monotonic() + AT_MOST, self._poll.poll
        while not poll(0) and time.monotonic() < until:
            pass

    def _answers(self, request: Request) -> list[Any]:
        answers: list[Any] = []
        while len(answers) < request.answers:
            answer = self._reader.gets()
            if answer is _NOTHING:
                self._receive()
            else:
                answers.append(answer)
        return answers

    def _receive(self) -> None:
        size = self._socket.recv_into(self._buffer)
        if not size:
            raise ValkeyConnectionError("the connection was closed")
        self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type] # it takes any buffer, and copies
        self._set_timeout()

    def _set_timeout(self) -> None:
        """Leave to a step what the call has left; a whole deadline, unless much has gone before."""
        timeout = left(DEADLINE)
        if timeout != self._timeout:
            self._socket.settimeout(timeout)
            self._timeout = timeout


_NOTHING = object()
