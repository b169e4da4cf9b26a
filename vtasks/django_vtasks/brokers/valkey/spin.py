"""Stay awake while an answer is on its way that is worth it."""

import asyncio
import time
from collections.abc import Callable

AT_MOST = 0.0002
"""Seconds that a loop stays awake for an answer."""
ENOUGH_TURNS = 3
"""Of the loop, in that time: with fewer it had other things to do, which tell nothing of the server."""
MOST_SKIPPED = 255
"""Sends between two attempts with a server that takes longer."""


class Spin:
    """Keep one event loop from going to sleep for an answer that comes at once: see docs/adr/0017-*.md.

    Whatever else there is to do on the loop is done meanwhile. A server that takes longer is not waited for like that,
    but for a try now and then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._clock = clock  # not the loop's: that of uvloop knows milliseconds only
        self._until = 0.0
        self._turns = 0
        self._is_on = False
        self._skipped = 0
        self._to_skip = 0

    def begin(self) -> None:
        """Stay awake for what has just been sent."""
        if self._skipped < self._to_skip:
            self._skipped += 1
            return
        self._until = self._clock() + AT_MOST
        self._turns = 0
        if not self._is_on:
            self._is_on = True
            self._loop.call_soon(self._turn)

    def end(self) -> None:
        """Go back to sleep: the answer is here."""
        if self._is_on:
            self._until = 0.0
            self._to_skip = 0

    def _turn(self) -> None:
        self._turns += 1
        if self._clock() < self._until:
            self._loop.call_soon(self._turn)
            return
        self._is_on = False
        if self._until and self._turns >= ENOUGH_TURNS:
            self._to_skip = min(MOST_SKIPPED, 2 * self._to_skip + 1)
            self._skipped = 0
