"""The task as frozen data, on its way from the caller to the actor that runs it."""

from typing import Annotated, Any

import msgspec


class Unique(msgspec.Struct, frozen=True, omit_defaults=True):
    """The lock a task holds so that no equal one is enqueued beside it.

    ``key`` is 64 hexadecimal digits, ``ttl`` seconds from the enqueue. With ``keep`` the lock outlives the
    task until ``ttl`` has passed (throttling); otherwise it goes when the task ends (mutex).
    """

    key: str
    ttl: float | None = None
    keep: bool = False


type Moment = Annotated[float, msgspec.Meta(ge=-62_135_510_400, le=253_402_214_400)]
"""Seconds since the epoch, in the years that a datetime can tell in any time zone."""


# Nothing in an envelope can refer back to it: the collector need not look at one, of which a bulk makes thousands.
class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1, gc=False):
    """One enqueued call of one task.

    ``id`` has 32 characters, ``task`` is the dotted path, ``enqueued_at`` and ``run_after`` are seconds since
    the epoch. ``attempt`` counts starts (1 while first running) and ``crashes`` how many actors died on it.
    The tag ``v`` is the version of this format; a payload of another version is not decoded.
    """

    id: str
    task: str
    queue: str
    args: list[Any]
    kwargs: dict[str, Any]
    enqueued_at: Moment
    priority: int = 0
    run_after: Moment | None = None
    attempt: int = 0
    crashes: int = 0
    max_rescues: int = 2
    unique: Unique | None = None
    headers: dict[str, str] = {}

    @property
    def due_since(self) -> float:
        """Return from when on the task may run, in seconds since the epoch."""
        return self.enqueued_at if self.run_after is None else max(self.enqueued_at, self.run_after)

    def anew(self, at: float) -> "Envelope":
        """Return the same call as a task that is enqueued at another time and has not run yet."""
        return msgspec.structs.replace(self, enqueued_at=at, run_after=None, attempt=0, crashes=0)

    @classmethod
    def unreadable(cls, task_id: str, queue: str) -> "Envelope":
        """Stand in for a stored task whose payload cannot be read."""
        return cls(id=task_id, task="", queue=queue, args=[], kwargs={}, enqueued_at=0.0)
