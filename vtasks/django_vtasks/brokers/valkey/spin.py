"""Stay awake while an answer is on its way, where that is quicker than to be woken."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from statistics import median

AT_MOST = 0.0002
"""Seconds that a loop stays awake for an answer."""
TRIAL, BETWEEN = 8, 120
"""Sends of a trial, every other of which stays awake, and sends between two trials."""
REMEMBERED = 20
"""Answers of either way that are compared: those of five trials."""
GAIN = 0.9
"""The part of the time, or less, that an answer takes if it is worth to stay awake."""


class Trials:
    """Find out whether an answer comes sooner to those who stay awake, from time to time.

    See docs/adr/0017-a-loop-stays-awake-for-its-push.md.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._is_worth_it = False
        self._number = -1
        self._sent_at = 0.0
        self._asleep: deque[float] = deque(maxlen=REMEMBERED)
        self._awake: deque[float] = deque(maxlen=REMEMBERED)

    def begin(self) -> bool:
        """Tell whether to stay awake for what has just been sent; the answer to what was sent before is here."""
        self._number = (self._number + 1) % (TRIAL + BETWEEN)
        if self._number >= TRIAL:
            return self._is_worth_it
        self._sent_at = self._clock()
        return bool(self._number % 2)

    def end(self) -> None:
        """Note that the answer is here."""
        if self._number < TRIAL:
            (self._awake if self._number % 2 else self._asleep).append(self._clock() - self._sent_at)
            if self._number == TRIAL - 1:
                self._is_worth_it = median(self._awake) < GAIN * median(self._asleep)


class Spin:
    """Keep one event loop from going to sleep for an answer where that is worth it.

    Whatever else there is to do on the loop is done meanwhile.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._clock = clock  # not the loop's: that of uvloop knows milliseconds only
        self._trials = Trials(clock)
        self._until = 0.0
        self._is_turning = False

    def begin(self) -> None:
        """Stay awake for what has just been sent, or not; the answer to what was sent before is here."""
        if self._trials.begin():
            self._until = self._clock() + AT_MOST
            if not self._is_turning:
                self._is_turning = True
                self._loop.call_soon(self._turn)

    def end(self) -> None:
        """Go back to sleep: the answer is here."""
        self._until = 0.0
        self._trials.end()

    def _turn(self) -> None:
        if self._clock() < self._until:
            self._loop.call_soon(self._turn)
        else:
            self._is_turning = False
