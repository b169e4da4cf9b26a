"""Ids of tasks."""

import os
import random

AT_ONCE = 256
LENGTH = 32
"""Hexadecimal digits."""

# A generator of our own: random.seed() in a project must not make all its processes give the same ids.
_random = random.Random()  # noqa: S311 - ids are unique, not secret
_made: list[str] = []


def new() -> str:
    """Return an id that no other task has, 32 hexadecimal digits."""
    try:
        return _made.pop()
    except IndexError:
        # Many at once, which takes a third of the time; and of these none for another thread, which may be faster.
        digits = _random.randbytes(AT_ONCE * LENGTH // 2).hex()
        mine, *others = (digits[begin : begin + LENGTH] for begin in range(0, len(digits), LENGTH))
        _made.extend(others)
        return mine


def _begin_anew() -> None:
    _made.clear()
    _random.seed()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
