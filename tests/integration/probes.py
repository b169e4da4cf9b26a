"""Looking until something is so: the tests' only way of waiting for another process."""

import time
from collections.abc import Callable

PATIENCE = 20.0
LOOK_EVERY = 0.01


def eventually[T](probe: Callable[[], T], what: str, within: float = PATIENCE) -> T:
    """Return the probe's first true answer; fail with ``what`` after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"Not within {within:g} s: {what} (last seen: {answer!r})")
        time.sleep(LOOK_EVERY)
    return answer
