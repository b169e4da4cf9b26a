"""Connections of threads, which keep to the time that a call has as a whole."""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import valkey

SHORTEST = 0.001
"""Seconds: a socket takes no time-out of none, but for not to wait at all."""


class _Clock(threading.local):
    until: float | None = None


_clock = _Clock()


class Within:
    """Give all that is done in the block on connections of this module so many seconds, or what an outer one has left.

    An answer that has begun to arrive may take longer, as long as it goes on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        """Begin."""
        self._outer = _clock.until
        until = time.monotonic() + self._seconds
        _clock.until = until if self._outer is None else min(self._outer, until)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""
        _clock.until = self._outer


def left(at_most: float) -> float:
    """Return how many seconds a step of the running call may take."""
    if _clock.until is None:
        return at_most
    return max(SHORTEST, min(at_most, _clock.until - time.monotonic()))


class _Timed:
    """What a connection of the driver's does in each step, done in what is left of the time."""

    _sock: socket.socket | None
    socket_timeout: float
    socket_connect_timeout: float

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._connect_within = self.socket_connect_timeout
        self._answer_within = self.socket_timeout

    def _connect(self) -> socket.socket:
        self.socket_connect_timeout = left(self._connect_within)
        self.socket_timeout = left(self._answer_within)
        in_all = left(self._connect_within + self._answer_within)
        return _on_a_thread(super()._connect, in_all)  # type: ignore[misc] # the driver has it

    def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        """Send."""
        self._set_time()
        super().send_packed_command(*arguments, **options)  # type: ignore[misc] # the driver has it

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Read an answer."""
        self._set_time()
        return super().read_response(*arguments, **options)  # type: ignore[misc] # the driver has it

    def _set_time(self) -> None:
        if self._sock is not None:
            self._sock.settimeout(left(self._answer_within))


class _Connection(_Timed, valkey.Connection):  # type: ignore[misc] # of any type, in the eyes of mypy
    pass


class _SSLConnection(_Timed, valkey.SSLConnection):  # type: ignore[misc] # likewise
    pass


class _UnixConnection(_Timed, valkey.UnixDomainSocketConnection):  # type: ignore[misc] # likewise
    pass


_TIMED = {
    valkey.Connection: _Connection,
    valkey.SSLConnection: _SSLConnection,
    valkey.UnixDomainSocketConnection: _UnixConnection,
}


def timed[T: Any](pool: T) -> T:
    """Return a pool of the driver's whose connections will keep to the time."""
    pool.connection_class = _TIMED[pool.connection_class]
    return pool


def _on_a_thread(connect: Callable[[], socket.socket], timeout: float) -> socket.socket:
    """Connect in time: nothing ends a look-up of a name, and each of its addresses has a time of its own."""
    made: Future[socket.socket] = Future()
    threading.Thread(target=_make, args=[connect, made], name="vtasks: connect", daemon=True).start()
    try:
        return made.result(timeout)
    except TimeoutError:
        made.add_done_callback(_close)
        raise
    finally:
        del made  # its error knows this frame, and both would keep all connections alive until a garbage collection


def _make(connect: Callable[[], socket.socket], made: "Future[socket.socket]") -> None:
    try:
        made.set_result(connect())
    except BaseException as error:  # noqa: BLE001 - it is raised where it belongs
        made.set_exception(error)


def _close(made: "Future[socket.socket]") -> None:
    if made.exception() is None:
        made.result().close()
