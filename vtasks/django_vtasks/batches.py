"""What batch functions get, and what they may say of each member."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from django_vtasks.errors import BatchFailed

type Fates = Mapping[str, BaseException | None]
"""What became of the members of a batch, by id: why one failed, or None; one that is not named is done."""


def member(
    *,
    task_id: str,
    queue: str,
    path: str,
    args: list[Any],
    kwargs: dict[str, Any],
    enqueued_at: datetime | None,
    attempt: int,
) -> dict[str, Any]:
    """Return what a batch function gets for each task."""
    return {
        "id": task_id,
        "queue": queue,
        "func": path,
        "args": args,
        "kwargs": kwargs,
        "enqueued_at": enqueued_at,
        "attempt": attempt,
    }


def fates_of_return(value: object, ids: Collection[str]) -> Fates:
    """Return what a batch function says of its members by what it returns; most say nothing."""
    if (
        isinstance(value, Mapping)
        and value.keys() <= set(ids)
        and all(error is None or isinstance(error, BaseException) for error in value.values())
    ):
        return value
    return {}


def fates_of_error(error: BaseException, ids: Collection[str]) -> Fates:
    """Return what an exception of a batch function says of its members: but for BatchFailed, that all have failed.

    One that names strangers has mistaken its batch.
    """
    if isinstance(error, BatchFailed) and error.errors.keys() <= set(ids):
        return error.errors
    return dict.fromkeys(ids, error)
