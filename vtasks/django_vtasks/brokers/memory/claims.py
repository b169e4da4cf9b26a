"""Which owner holds which task, by receipt."""

from collections.abc import Callable
from itertools import count, islice

from django_vtasks.brokers.base import Owner, Running
from django_vtasks.brokers.memory.stored import StoredTask


class RunningTasks:
    """The claimed tasks; a receipt is never given twice, so that a late one fits nothing."""

    def __init__(self) -> None:
        self._receipts = count(1)
        self._held: dict[int, tuple[Owner, StoredTask]] = {}
        self._since: dict[int, float] = {}

    def begin(self, owner: Owner, task: StoredTask, now: float) -> int:
        """Book a task on an owner; return the receipt."""
        receipt = next(self._receipts)
        self._held[receipt] = owner, task
        self._since[receipt] = now
        return receipt

    def end(self, owner: Owner, receipt: int) -> StoredTask | None:
        """Take a task off its owner's books; None when it is not this owner's."""
        holder, task = self._held.get(receipt, (None, None))
        if holder == owner:
            del self._held[receipt], self._since[receipt]
            return task
        return None

    def end_all(self, whose: Callable[[int, Owner], bool]) -> list[StoredTask]:
        """Take off the books every task whose receipt and owner fit."""
        ended = [receipt for receipt, (owner, _) in self._held.items() if whose(receipt, owner)]
        for receipt in ended:
            del self._since[receipt]
        return [self._held.pop(receipt)[1] for receipt in ended]

    def all(self, limit: int) -> list[Running]:
        """Return up to ``limit`` of them as an operator sees them."""
        some = islice(self._held.items(), limit)
        return [Running(task.read()[0], owner, self._since[receipt]) for receipt, (owner, task) in some]

    def owners(self) -> list[Owner]:
        """Return all who hold a task, each once."""
        return list(dict.fromkeys(owner for owner, _ in self._held.values()))

    def queues(self) -> list[str]:
        """Return the queue of each task."""
        return [task.queue for _, task in self._held.values()]
