"""Who holds which unique key, and until when."""

from dataclasses import dataclass

from django_vtasks.envelope import Unique


@dataclass(frozen=True, slots=True)
class _Lock:
    task_id: str
    keep: bool
    expires: float | None

    def holds(self, now: float) -> bool:
        return self.expires is None or now < self.expires


class UniqueLocks:
    """The locks by key; ``now`` is in seconds on the broker's clock."""

    def __init__(self) -> None:
        self._locks: dict[str, _Lock] = {}

    def take(self, unique: Unique, task_id: str, now: float) -> bool:
        """Give the key to a task; False when another one holds it."""
        held = self._locks.get(unique.key)
        if held and held.task_id != task_id and held.holds(now):
            return False
        expires = None if unique.ttl is None else now + unique.ttl
        self._locks[unique.key] = _Lock(task_id, unique.keep, expires)
        return True

    def is_held(self, key: str, now: float) -> bool:
        """Tell whether a key is taken."""
        return key in self._locks and self._locks[key].holds(now)

    def free(self, key: str | None, task_id: str, *, even_kept: bool = False) -> None:
        """Free the key if it is this task's and, unless ``even_kept``, does not outlive the task."""
        held = self._locks.get(key) if key else None
        if key and held and held.task_id == task_id and (even_kept or not held.keep):
            del self._locks[key]

    def drop_lapsed(self, now: float) -> None:
        """Forget the locks that hold nobody back any more."""
        self._locks = {key: lock for key, lock in self._locks.items() if lock.holds(now)}
