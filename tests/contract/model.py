"""What a store should do, in the fewest words: the model that the state machine compares with."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from django_vtasks.brokers.base import Ack, Bury, Claim, Owner, Reclaimed, Retry, Settlement
from django_vtasks.envelope import Envelope


@dataclass
class ModelTask:
    """A task that has been accepted and has not ended."""

    envelope: Envelope
    place: int
    delayed: bool
    suspect: bool = False
    attempt: int = 0
    crashes: int = 0
    owner: Owner | None = None
    claims: int = 0

    def give_back(self, *, attempt_spent: bool) -> None:
        self.owner = None
        self.attempt -= not attempt_spent
        self.suspect = self.crashes > 0


@dataclass
class Model:
    """One queue with its locks, its failed list and its nodes."""

    accepted: int = 0
    tasks: dict[str, ModelTask] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    locks: dict[str, tuple[str, bool]] = field(default_factory=dict)
    nodes: dict[str, bool] = field(default_factory=dict)
    """Whether the lease still runs, by node."""

    def push(self, envelope: Envelope) -> bool:
        unique = envelope.unique
        if unique and unique.key in self.locks:
            return False
        if unique:
            self.locks[unique.key] = envelope.id, unique.keep
        self.accepted += 1
        self.tasks[envelope.id] = ModelTask(envelope, self.accepted, envelope.run_after is not None)
        return True

    def claim(
        self, owner: Owner, limit: int, *, suspects: bool, chosen: Sequence[str] | None = None
    ) -> list[ModelTask]:
        """Claim what comes first; or, of a store that has an order of its own, the tasks that it has ``chosen``."""
        due = [task for task in self.waiting() if not task.delayed and task.suspect is suspects]
        if chosen is None:
            claimed = sorted(due, key=lambda task: (-task.envelope.priority, task.place))[:limit]
        else:
            assert len(chosen) == min(limit, len(due))
            claimed = [next(task for task in due if task.envelope.id == task_id) for task_id in chosen]
        for task in claimed:
            task.owner = owner
            task.attempt += 1
            task.claims += 1
        return claimed

    def settle(self, owner: Owner, settlement: Settlement, ordinal: int) -> bool:
        """Apply the settlement of a task's claim number ``ordinal``."""
        task = self.tasks.get(settlement.claim.envelope.id)
        if task is None or task.owner != owner or task.claims != ordinal:
            return False
        match settlement:
            case Ack() | Bury():
                self._end(task, failed=isinstance(settlement, Bury))
            case Retry(delay=delay):
                task.give_back(attempt_spent=True)
                task.suspect, task.delayed = False, delay > 0
            case _:
                task.give_back(attempt_spent=False)
        return True

    def holds(self, claim: Claim, ordinal: int) -> bool:
        task = self.tasks.get(claim.envelope.id)
        return task is not None and task.owner == claim.owner and task.claims == ordinal

    def give_back(self, tasks: list[ModelTask]) -> int:
        for task in tasks:
            task.give_back(attempt_spent=False)
        return len(tasks)

    def rescue(self, owner: Owner, running: frozenset[str] | None = None) -> Reclaimed:
        reclaimed = Reclaimed([], [])
        held = self.held_by(owner)
        struck = {task.envelope.id for task in held} if running is None else running
        for task in held:
            task_id, max_rescues = task.envelope.id, task.envelope.max_rescues
            task.crashes += task_id in struck
            if task.crashes > max_rescues and (len(struck) == 1 or max_rescues == 0):
                self._end(task, failed=True)
                reclaimed.buried.append(task_id)
            else:
                task.crashes = min(task.crashes, max_rescues)
                task.give_back(attempt_spent=task_id in struck)
                reclaimed.returned.append(task_id)
        return reclaimed

    def clear(self) -> int:
        cleared = self.waiting()
        for task in cleared:
            self._end(task, failed=False, even_kept=True)
        return len(cleared)

    def running(self) -> list[ModelTask]:
        return [task for task in self.tasks.values() if task.owner is not None]

    def held_by(self, owner: Owner) -> list[ModelTask]:
        return [task for task in self.running() if task.owner == owner]

    def delayed(self) -> list[ModelTask]:
        return [task for task in self.waiting() if task.delayed]

    def waiting(self) -> list[ModelTask]:
        return [task for task in self.tasks.values() if task.owner is None]

    def suspects(self) -> list[ModelTask]:
        return [task for task in self.waiting() if task.suspect]

    def _end(self, task: ModelTask, *, failed: bool, even_kept: bool = False) -> None:
        task_id, unique = task.envelope.id, task.envelope.unique
        del self.tasks[task_id]
        self.ended.append(task_id)
        if failed:
            self.failed.append(task_id)
        if unique and (even_kept or not unique.keep) and self.locks.get(unique.key) == (task_id, unique.keep):
            del self.locks[unique.key]
