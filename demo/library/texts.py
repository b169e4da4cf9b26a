"""The books of the reading room, which are the files in ``texts``, and their words."""

import re
from collections import Counter
from functools import cache
from pathlib import Path

SHELF = Path(__file__).parent / "texts"
WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
SHORT = 4
"""Words up to this length are too common to say anything about a text."""


class NoSuchText(LookupError):
    """The reading room does not have the text."""


def names() -> list[str]:
    """Return the names of all texts."""
    return sorted(path.stem for path in SHELF.glob("*.txt"))


def title(text: str) -> str:
    """Return the first line of a text."""
    return _read(text).partition("\n")[0]


@cache
def words(text: str) -> Counter[str]:
    """Return how often each word occurs in a text, below its title."""
    return Counter(WORD.findall(_read(text).partition("\n")[2].lower()))


def letters(text: str) -> Counter[str]:
    """Return how often each letter occurs in a text, below its title."""
    return Counter(letter for word in words(text).elements() for letter in word)


def commonest(text: str, count: int) -> list[tuple[str, int]]:
    """Return the commonest words that are not short, each with how often it occurs."""
    long = {word: times for word, times in words(text).items() if len(word) > SHORT}
    return sorted(long.items(), key=lambda item: (-item[1], item[0]))[:count]


def _read(text: str) -> str:
    try:
        return (SHELF / f"{text}.txt").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NoSuchText(f"The reading room has no text {text!r}.") from None
