"""Values of the command line: what makes no sense is said in one line, before anything is measured or broken."""

import argparse
import random
from collections.abc import Callable


def count(text: str) -> int:
    """Return a number of things of which there is one at least."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not one at least")
    return int(text)


def seed_of(given: int | None) -> int:
    """Return the seed that was given, or any."""
    return random.randrange(2**32) if given is None else given  # noqa: S311 - no secret


def positive(text: str) -> float:
    """Return a number above zero."""
    return _number(text, lambda value: value > 0, "above 0")


def at_least(least: float) -> Callable[[str], float]:
    """Return what makes a number of a text that is not below the least."""
    return lambda text: _number(text, lambda value: value >= least, f"of {least:g} or more")


def _number(text: str, is_right: Callable[[float], bool], which: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not is_right(value) or value == float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number {which}")
    return value
