"""Ids of tasks."""

import os
import random

AT_ONCE = 256
BYTES = 16

# A generator of our own: random.seed() in a project must not make all its processes give the same ids.
_random = random.Random()  # noqa: S311 - ids are unique, not secret
_made: list[str] = []


def new() -> str:
    """Return an id that no other task has, 32 hexadecimal digits."""
    try:
        return _made.pop()
    except IndexError:
        # Many at once, in half of the time; and of these none for another thread, which may be faster.
        mine, *others = several(AT_ONCE)
        _made.extend(others)
        return mine


def several(count: int) -> list[str]:
    """Return so many such ids, each in half of the time."""
    return _random.randbytes(count * BYTES).hex("-", BYTES).split("-") if count else []


def _begin_anew() -> None:
    _made.clear()
    _random.seed()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
