"""What batch functions get, and what they may say of each member."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from django_vtasks.errors import BatchFailed

type Fates = Mapping[str, BaseException | None]
"""What became of the members of a batch, by id: why one failed, or None; one that is not named is done."""


def member(
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
    """Return what a batch function says of its members by what it returns; most say nothing.

    Errors of strangers, or what is no error, are a mistake, which must not pass for a success.
    """
    fates = _fates(value, ids)
    if fates is None and isinstance(value, Mapping) and _is_about_members(value, ids):
        mistake = "The batch function has returned what is no mapping of its members' ids to exceptions, or to None."
        return dict.fromkeys(ids, ValueError(mistake))
    return fates or {}


def fates_of_error(error: BaseException, ids: Collection[str]) -> Fates:
    """Return what an exception of a batch function says of its members: but for BatchFailed, that all have failed.

    One that names strangers has mistaken its batch.
    """
    fates = _fates(getattr(error, "errors", None), ids) if isinstance(error, BatchFailed) else None
    return dict.fromkeys(ids, error) if fates is None else fates


def _is_about_members(value: Mapping[Any, Any], ids: Collection[str]) -> bool:
    """Tell whether a mapping is meant for fates: it names a member, or has an exception."""
    pairs = dict(value).items()
    return any(key in ids or isinstance(error, BaseException) for key, error in pairs)


def _fates(value: object, ids: Collection[str]) -> Fates | None:
    """Return a project's mapping as fates, if it is one of these members to errors."""
    if not isinstance(value, Mapping):
        return None
    fates = dict(value)
    if not fates.keys() <= set(ids):
        return None
    return fates if all(error is None or isinstance(error, BaseException) for error in fates.values()) else None
