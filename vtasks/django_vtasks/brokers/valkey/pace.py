"""How much of an answer a line carries in time."""

BYTES = 1024 * 1024
"""What a claim may bring beyond its first task, where the line is as it should be."""
PATIENCE = 15.0
"""Seconds for which an answer that is late may go on to arrive."""
SLOWEST = 6


class Pace:
    """Answers that came too late → smaller ones, with more time; what comes in time makes them larger again."""

    def __init__(self) -> None:
        self._slowness = 0

    @property
    def room(self) -> int:
        """Return how many bytes a claim may bring beyond its first task."""
        return BYTES >> 2 * self._slowness

    @property
    def patience(self) -> float:
        """Return for how long an answer that is late may go on to arrive; one task may be as large as 16 MiB."""
        return PATIENCE * (1 << self._slowness)

    def slow_down(self) -> None:
        """Note that an answer did not arrive."""
        self._slowness = min(self._slowness + 1, SLOWEST)

    def speed_up(self) -> None:
        """Note that an answer arrived without delay."""
        self._slowness = max(self._slowness - 1, 0)
