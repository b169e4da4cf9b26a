"""The log of the worker's own processes, the supervisor and each actor: no reader holds them up."""

import contextlib
import logging
import os
import select
import socket
import stat
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TextIO

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


def wait_for_no_reader() -> None:
    """Let the project's own handlers not wait, either, for who reads the standard error and output.

    Only for a process that is the worker's own.
    """
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in logger.handlers if isinstance(logger, logging.Logger) else []:
            if isinstance(handler, logging.StreamHandler) and handler.stream in {sys.stderr, sys.stdout}:
                with contextlib.suppress(AttributeError, OSError, ValueError):  # it has no descriptor
                    handler.setStream(PatientStream(handler.stream))


class Outlet:
    """Writes to a descriptor without ever waiting for its reader; what is too much is dropped, and the log says so."""

    def __init__(self, fd: int) -> None:
        self.fd, self._write = _writer(fd)
        self._waiting = bytearray()
        self._lost = 0

    def add(self, line: bytes) -> None:
        """Write a line if somebody reads; else keep it for a while."""
        self.write_out()
        if self._lost and not self._waiting:
            self._waiting += b"%d records of this log are lost: nobody read it\n" % self._lost
            self._lost = 0
        if len(self._waiting) + len(line) > MOST:
            self._lost += 1
        else:
            self._waiting += line
            self.write_out()

    def write_out(self) -> None:
        """Write what waits, as far as somebody reads."""
        try:
            while self._waiting:
                del self._waiting[: self._write(bytes(self._waiting))]
        except BlockingIOError:
            pass
        except OSError:  # the reader is gone, and no other will come
            self._waiting.clear()

    def write_last(self) -> None:
        """Give the reader a last chance."""
        self.write_out()
        if self._waiting:
            poll = select.poll()
            poll.register(self.fd, select.POLLOUT)
            poll.poll(LAST_LINES_WITHIN * 1000)
            self.write_out()


class PatientHandler(logging.Handler):
    """Logs through an outlet.

    It writes after close() too: configuring logging closes the handlers that are there, and leaves them where they are.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._outlet = Outlet(fd)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        except Exception:  # noqa: BLE001 - as every handler of the library does
            self.handleError(record)
            return
        self._outlet.add(line)

    def flush(self) -> None:
        """Give the reader a last chance."""
        with self.lock or contextlib.nullcontext():
            self._outlet.write_last()


class PatientStream:
    """What a handler of the project's writes to in place of the standard error or output."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._outlet = Outlet(stream.fileno())
        # At the end, logging.shutdown() flushes every handler that there is, whether or not a logger has it.
        self._at_the_end = _LastChance(self._outlet)

    def write(self, text: str) -> int:
        """Write a record."""
        self._outlet.add(text.encode(self._stream.encoding, errors="backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Write what waits, as far as somebody reads."""
        self._outlet.write_out()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _LastChance(logging.NullHandler):
    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet

    def flush(self) -> None:
        self._outlet.write_last()


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
