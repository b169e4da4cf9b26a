"""The worker's own log handler, in the supervisor and in each actor process."""

import contextlib
import logging
import os
import select
import socket
import stat
import sys
from collections.abc import Callable
from functools import partial

LOGGERS = ("django_vtasks", "vtasks_supervisor")
MOST = 1_000_000
"""Bytes that may wait for a reader who does not read."""
LAST_LINES_WITHIN = 0.5
"""Seconds for what still waits when the process ends."""

type Write = Callable[[bytes], int]


def log_to_stderr(level: int) -> None:
    """Show the worker's log unless the project's LOGGING already does something with it."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not logger.hasHandlers():
            handler = _handler()
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            logger.addHandler(handler)
            logger.setLevel(level)


class PatientHandler(logging.Handler):
    """Writes to a descriptor without ever waiting for its reader; what is too much is dropped, and the log says so.

    It writes after close() too: configuring logging closes the handlers that are there, and leaves them where they are.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd, self._write = _writer(fd)
        self._waiting = bytearray()
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record if somebody reads; else keep it for a while."""
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        except Exception:  # noqa: BLE001 - as every handler of the library does
            self.handleError(record)
            return
        self._write_out()
        if self._lost and not self._waiting:
            self._waiting += b"%d records of this log are lost: nobody read it\n" % self._lost
            self._lost = 0
        if len(self._waiting) + len(line) > MOST:
            self._lost += 1
        else:
            self._waiting += line
            self._write_out()

    def flush(self) -> None:
        """Give the reader a last chance."""
        with self.lock or contextlib.nullcontext():
            self._write_out()
            if self._waiting:
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(LAST_LINES_WITHIN * 1000)
                self._write_out()

    def _write_out(self) -> None:
        try:
            while self._waiting:
                del self._waiting[: self._write(bytes(self._waiting))]
        except BlockingIOError:
            pass
        except OSError:  # the reader is gone, and no other will come
            self._waiting.clear()


def _handler() -> logging.Handler:
    try:
        return PatientHandler(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        return logging.StreamHandler()


def _writer(fd: int) -> tuple[int, Write]:
    """Return where and how to write without waiting, whatever else shares the descriptor."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return fd, partial(_send, fd)
    if stat.S_ISFIFO(mode) or os.isatty(fd):
        with contextlib.suppress(OSError):
            # Opened anew, because O_NONBLOCK would count for everybody who shares it.
            own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            return own, partial(os.write, own)
    return fd, partial(os.write, fd)


def _send(fd: int, data: bytes) -> int:
    sock = socket.socket(fileno=fd)
    try:
        return sock.send(data, socket.MSG_DONTWAIT)
    finally:
        sock.detach()
