"""A task as the memory holds it."""

from dataclasses import dataclass

from django_vtasks import wire
from django_vtasks.brokers.base import FailedTask, TaskFailure, verdict
from django_vtasks.envelope import Envelope
from django_vtasks.errors import PayloadError


@dataclass(slots=True)
class StoredTask:
    """A payload and its state; ``place`` is the order of its push, ``key`` that of its lock.

    ``since`` is from when on the task may run.
    """

    id: str
    queue: str
    payload: bytes
    place: int
    priority: int
    key: str | None
    due: float | None
    since: float
    attempt: int = 0
    crashes: int = 0

    @classmethod
    def of(cls, envelope: Envelope, payload: bytes, place: int) -> "StoredTask":
        """Return what is stored of a new task."""
        key = envelope.unique.key if envelope.unique else None
        due, since = envelope.run_after, envelope.due_since
        return cls(envelope.id, envelope.queue, payload, place, envelope.priority, key, due, since)

    def rank(self) -> tuple[int, int]:
        """Return the key of the order in which tasks are claimed."""
        return -self.priority, self.place

    def read(self) -> tuple[Envelope, str | None]:
        """Return the envelope as of now, or a stand-in and why the payload cannot be read."""
        try:
            envelope = wire.decode(self.payload)
        except PayloadError as error:
            return Envelope.unreadable(self.id, self.queue), str(error)
        return wire.stamped(envelope, attempt=self.attempt, crashes=self.crashes), None

    def crash(self, *, alone: bool) -> bool:
        """Count a crash; return whether the task is given up for it, as what cannot be read always is."""
        envelope, problem = self.read()
        self.crashes, buried = verdict(self.crashes, 0 if problem else envelope.max_rescues, alone=alone)
        return buried

    def failed(self, failure: TaskFailure, at: float) -> FailedTask:
        """Return the task's entry of the failed list."""
        task = self.read()[0].task
        return FailedTask(self.id, self.queue, task, failure, at, self.attempt, self.crashes)
