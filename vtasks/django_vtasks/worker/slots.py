"""How many claims an actor may hold: what it can run, plus a little ahead when tasks are short."""

import asyncio

LOOK_AHEAD = 0.05
"""Seconds of work that may be claimed ahead of a free slot."""
LONG = 1.0
"""Seconds that a task is held to take until some have shown how long they do."""
_SMOOTHING = 0.2


class Slots:
    """Count running and waiting claims of one actor; ``limit`` tasks run at a time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._seconds = LONG
        self._changed = asyncio.Event()

    @property
    def room(self) -> int:
        """Return how many more tasks may be claimed now."""
        return max(0, self.limit + self.ahead - self.held)

    @property
    def ahead(self) -> int:
        """Return how many tasks may wait here: as many as run, but none when tasks are long.

        Otherwise a slow actor would hoard what an idle one could run at once.
        """
        if self._seconds >= LONG:
            return 0
        return int(self.limit * min(1.0, LOOK_AHEAD / max(self._seconds, 1e-6)))

    def take(self, count: int) -> None:
        """Book claimed tasks."""
        self.held += count

    def free(self, seconds: float | None = None) -> None:
        """Give one slot back; ``seconds`` is how long its task ran, unknown when it did not."""
        self.held -= 1
        if seconds is not None:
            self._seconds += _SMOOTHING * (seconds - self._seconds)
        self._changed.set()

    def slow_down(self) -> None:
        """Claim nothing ahead until tasks have shown again that they are short."""
        self._seconds = max(self._seconds, LONG)

    async def wait_for_room(self) -> int:
        """Return the room as soon as there is some."""
        while not (room := self.room):
            self._changed.clear()
            await self._changed.wait()
        return room

    async def wait_until_empty(self) -> None:
        """Return when no claim is held."""
        while self.held:
            self._changed.clear()
            await self._changed.wait()
