"""What systemd is told: ready, alive, stopping."""

import logging
import os
import socket
from collections.abc import Mapping
from typing import Self

logger = logging.getLogger(__name__)

LONGEST_STATUS = 1000
"""Characters; systemd reads 4 KiB of a message."""


class Notifier:
    """Sends messages to systemd's socket, or nowhere when there is none; never waits, never raises."""

    def __init__(self, address: str | None = None, watchdog_interval: float | None = None) -> None:
        self.watchdog_interval = watchdog_interval
        """Seconds between two calls of watchdog(), half of what systemd allows; None if it does not watch us."""
        self._address = address
        self._has_failed = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Return the notifier for NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID."""
        address = environ.get("NOTIFY_SOCKET")
        return cls(address, _watchdog_interval(environ)) if address else cls()

    def ready(self) -> None:
        """Say that start-up is over."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Say in words, for ``systemctl status``, what goes on."""
        self._send(f"STATUS={' '.join(text.split())[:LONGEST_STATUS]}")

    def watchdog(self) -> None:
        """Say that all is well; due every ``watchdog_interval``."""
        self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Ask for this much time from now to start or to stop."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(0)
                sender.sendto(message.encode(), _path(self._address))
        except (OSError, ValueError) as error:
            if not self._has_failed:
                self._has_failed = True
                logger.warning("systemd at %s cannot be told %s: %s", self._address, message, error)


def _path(address: str) -> str:
    """Return the address as the socket module has it; an abstract one is written with ``@``."""
    if address.startswith("@"):
        return "\0" + address[1:]
    if address.startswith("/"):
        return address
    raise ValueError("neither a path nor an abstract address")


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    try:
        allowed = int(environ.get("WATCHDOG_USEC", "")) / 1_000_000
        watched = int(environ.get("WATCHDOG_PID") or os.getpid())
    except (ValueError, OverflowError):
        return None
    return allowed / 2 if allowed > 0 and watched == os.getpid() else None
