"""What goes to the server in one piece, and its answer."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from libvalkey import pack_command
from valkey.connection import DefaultParser

REASON = "because of: "
"""Stands before the error in the answer of a transaction that is discarded."""

type Argument = str | bytes | int


class Request(msgspec.Struct, frozen=True, gc=False):  # which is made in a third of the time that a tuple takes
    """Packed commands, a single one or a transaction, with the number of their answers.

    ``in_full`` makes what to send in its place to a server that does not know the script, where it calls one.
    """

    packed: bytes
    answers: int = 1
    in_full: "Callable[[], Request] | None" = None

    def then(self, other: "Request") -> "Request":
        """Return both as one, to be answered in this order."""
        return Request(self.packed + other.packed, self.answers + other.answers)


def command(*words: Argument) -> Request:
    """Return a single command."""
    return Request(pack_command(words))


def answer_in(answers: Sequence[Any]) -> Any:
    """Return what the server says to one request: its only answer; of a transaction the first error, or all answers."""
    if len(answers) == 1:
        return answers[0]
    begun, *queued, ended = answers
    if isinstance(begun, Exception):
        # Who may not begin a transaction has run the commands one by one.
        return _error_among(queued) or queued
    if isinstance(ended, list):
        return _error_among(ended) or ended
    return _error_among(queued) or _cause_of(ended)


def _error_among(answers: Sequence[Any]) -> Exception | None:
    return next((answer for answer in answers if isinstance(answer, Exception)), None)


def _cause_of(error: Any) -> Any:
    """Return what ended a transaction whose commands were all right when they came: the server has changed since."""
    reason = str(error).partition(REASON)[2]
    return DefaultParser.parse_error(reason.rstrip(".")) if reason else error


def checked(answers: Sequence[Any]) -> Any:
    """Return what answer_in() finds; raise it when it is an error."""
    answer = answer_in(answers)
    if isinstance(answer, Exception):
        raise answer
    return answer
