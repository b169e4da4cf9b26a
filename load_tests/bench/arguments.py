"""Types of arguments: what makes no sense is said by the parser, before anything is measured."""

import argparse
from collections.abc import Callable


def positive(text: str) -> int:
    """Return a number of things of which there is one at least."""
    if (number := _read(int, text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not one at least")
    return number


def seconds(text: str) -> float:
    """Return a time that is longer than none."""
    if not 0.0 < (number := _read(float, text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not more than nothing")
    return number


def cores(text: str) -> float:
    """Return a number of cores, of which there may be none."""
    if not 0.0 <= (number := _read(float, text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of cores")
    return number


def _read[T](kind: Callable[[str], T], text: str) -> T:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
