"""Repeated trouble with the broker: how long to wait, and what to log."""

import logging
import random
from collections.abc import Callable

logger = logging.getLogger(__name__)

FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0


class Outage:
    """Count failures of one activity: the first is logged with its traceback, the others in one line.

    So is the first when the trouble is ``known``, because somebody has logged it already.
    """

    def __init__(
        self, activity: str, *, known: bool = False, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._activity = activity
        self._known = known
        self._uniform = uniform
        self._failures = 0

    def failed(self, error: Exception) -> float:
        """Log a failure; return the seconds to wait before the next attempt, half of them at random."""
        self._failures += 1
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self._failures - 1, 16))
        delay = delay / 2 + self._uniform(0, delay / 2)
        if self._failures == 1 and not self._known:
            logger.error("Cannot %s; trying again until it works", self._activity, exc_info=error)
        else:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            logger.warning("Still cannot %s (%d failures): %s", self._activity, self._failures, reason)
        return delay

    def over(self) -> bool:
        """Note a success; return whether there had been failures."""
        if not self._failures:
            return False
        logger.info("Can %s again after %d failures", self._activity, self._failures)
        self._failures = 0
        return True
