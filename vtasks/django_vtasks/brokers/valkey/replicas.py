"""Waiting until replicas have what a call wrote."""

from collections.abc import Sequence
from typing import Any

from django_vtasks.brokers.valkey.request import Request, answer_in, command
from django_vtasks.errors import NotReplicated

REPLICATE_WITHIN = 2.0
"""Seconds that replicas have."""
MILLISECONDS = 1000


def with_wait(request: Request, replicas: int) -> Request:
    """Ask, behind a request and on its connection, until so many replicas have what it wrote."""
    return request.then(command("WAIT", replicas, round(REPLICATE_WITHIN * MILLISECONDS)))


def answer_of(answers: Sequence[Any], wanted: int) -> Any:
    """Return the request's own answer; raise when it, or the wait behind it, has failed."""
    *own, replicas = answers
    answer = answer_in(own)
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
