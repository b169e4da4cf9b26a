"""Which owner holds which task, by receipt."""

from collections.abc import Callable
from itertools import count

from django_vtasks.brokers.base import Owner
from django_vtasks.brokers.memory.stored import StoredTask


class RunningTasks:
    """The claimed tasks; a receipt is never given twice, so that a late one fits nothing."""

    def __init__(self) -> None:
        self._receipts = count(1)
        self._held: dict[int, tuple[Owner, StoredTask]] = {}

    def begin(self, owner: Owner, task: StoredTask) -> int:
        """Book a task on an owner; return the receipt."""
        receipt = next(self._receipts)
        self._held[receipt] = owner, task
        return receipt

    def end(self, owner: Owner, receipt: int) -> StoredTask | None:
        """Take a task off its owner's books; None when it is not this owner's."""
        holder, task = self._held.get(receipt, (None, None))
        if holder == owner:
            del self._held[receipt]
            return task
        return None

    def end_all(self, whose: Callable[[int, Owner], bool]) -> list[StoredTask]:
        """Take off the books every task whose receipt and owner fit."""
        ended = [receipt for receipt, (owner, _) in self._held.items() if whose(receipt, owner)]
        return [self._held.pop(receipt)[1] for receipt in ended]

    def owners(self) -> list[Owner]:
        """Return all who hold a task, each once."""
        return list(dict.fromkeys(owner for owner, _ in self._held.values()))

    def queues(self) -> list[str]:
        """Return the queue of each task."""
        return [task.queue for _, task in self._held.values()]
