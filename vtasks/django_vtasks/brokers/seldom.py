"""A warning that would come over and over, said now and then."""

import time
from collections.abc import Callable
from logging import Logger

EVERY = 60.0
"""Seconds between two lines."""


class Seldom:
    """Log warnings of one kind, one line a minute at most; it says how many others there were since the last."""

    def __init__(self, logger: Logger, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._monotonic = monotonic
        self._said_at = float("-inf")
        self._kept_back = 0

    def warning(self, message: str, *args: object) -> None:
        """Log a warning, or count it."""
        if self._monotonic() - self._said_at < EVERY:
            self._kept_back += 1
            return
        if self._kept_back:
            message, args = f"{message} (and %d times since it was last said)", (*args, self._kept_back)
        self._logger.warning(message, *args)
        self._said_at, self._kept_back = self._monotonic(), 0
