"""Clearing a queue in rounds of about the same time, however fast the server is and whatever its tasks hold."""

import time
from collections.abc import Callable

from django_vtasks.brokers.database.dialect import Place

ROUND = 0.02
"""Seconds that a round should take: somebody may wait for a row or a lock that it deletes."""
FIRST, FEWEST = 1000, 100
"""Rows of the first round, and of the shortest."""

type Clear = Callable[[int, Place | None], tuple[int, Place | None]]
"""Deletes up to so many rows, from a place on; see Dialect.clear()."""


def clear(clear: Clear, most: int, clock: Callable[[], float] = time.perf_counter) -> int:
    """Call ``clear`` with ``most`` rows at most until there is no more; return how many it has deleted."""
    total, place, limit = 0, None, min(FIRST, most)
    while True:
        began = clock()
        cleared, place = clear(limit, place)
        total += cleared
        if place is None:
            return total
        if cleared == limit:
            limit = paced(limit, clock() - began, most)


def paced(limit: int, seconds: float, most: int) -> int:
    """Return how many rows to delete next, after so many took so long: up to twice as many, or half."""
    wanted = limit * ROUND / seconds if seconds > 0 else 2.0 * limit
    return min(most, max(FEWEST, limit // 2, min(2 * limit, round(wanted))))
