"""Waiting until replicas have what a call wrote."""

from collections.abc import Sequence
from typing import Any

from django_vtasks.brokers.valkey.scripts import Command
from django_vtasks.errors import NotReplicated

REPLICATE_WITHIN = 2.0
"""Seconds that replicas have."""
MILLISECONDS = 1000


def with_wait(command: Command, replicas: int) -> Sequence[Command]:
    """Ask, behind a command and on its connection, until so many replicas have what it wrote."""
    return command, ("WAIT", replicas, round(REPLICATE_WITHIN * MILLISECONDS))


def answer_of(answers: Sequence[Any], wanted: int) -> Any:
    """Return the command's own answer; raise when it, or the wait behind it, has failed."""
    answer, replicas = answers
    if isinstance(answer, Exception):
        raise answer
    if isinstance(replicas, Exception):
        raise not_known(wanted, replicas, answer)
    if replicas < wanted:
        raise NotReplicated(
            f"What was enqueued is on the primary and on {replicas} replicas, not on {wanted} (MIN_REPLICAS), after "
            f"{REPLICATE_WITHIN:g} s; it runs unless the primary is lost.",
            answer=answer,
        )
    return answer


def not_known(wanted: int, error: Exception, answer: Any = None) -> NotReplicated:
    """Return the error of a wait that was ended."""
    return NotReplicated(
        f"What was enqueued is on a primary that has just been replaced; nobody knows whether {wanted} replicas "
        f"(MIN_REPLICAS) have it too: {error}",
        answer=answer,
    )
