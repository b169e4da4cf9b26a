"""What a test must do to a store and no caller of the contract can."""

from typing import Protocol

from django_vtasks.brokers.base import Broker, Coordinator


class Store(Broker, Coordinator, Protocol):
    """Both halves of the contract, as every store implements them."""


class Backdoor(Protocol):
    """The way into one empty store that exists for one test."""

    keeps_age: bool
    """Whether a task that is handed back, or due, takes the place that its age gives it."""

    def open(self) -> Store:
        """Return another instance on the same store, as another process would have."""
        ...

    def corrupt(self, task_id: str, payload: bytes) -> None:
        """Replace the payload of a waiting task."""
        ...

    def payload_of(self, task_id: str) -> bytes:
        """Return the payload of a waiting task."""
        ...

    def make_due(self, task_id: str) -> None:
        """Let the time of a delayed task have come."""
        ...

    def places(self) -> list[tuple[str, str]]:
        """Return each task that has not ended with the place where it stands: waiting, running, delayed, suspect."""
        ...

    def locks(self) -> dict[str, str]:
        """Return the keys that are held, each with the id of the task that holds it."""
        ...

    def lapse_lock(self, key: str) -> None:
        """Let the time to live of a lock be over."""
        ...

    def expire_lease(self, node: str) -> None:
        """Let a node's lease be over, as if it had not been renewed for long."""
        ...

    def end_term(self, role: str) -> None:
        """Let a leader's term be over."""
        ...

    def backdate(self, entry: str) -> None:
        """Let an entry of the schedule have been registered long ago."""
        ...

    def drop_lease(self, node: str) -> None:
        """Delete a node's lease under its owners' feet."""
        ...
