"""One child as its place sees it: what it has said, how long it has been silent, and when it is worn out."""

import asyncio
from collections.abc import Mapping
from typing import Any

from vtasks_supervisor.child import Child
from vtasks_supervisor.events import Exit

MEMORY_EVERY = 15.0
"""Seconds between two looks at a child's memory; two in a row must be above the limit."""
SPREAD = 0.1
"""By how much limits differ from child to child, so that not all are replaced at once."""


class Life:
    """From the start of a child to its exit; ``chance`` in 0..1 decides where in their spread its limits lie."""

    def __init__(self, child: Child, now: float, chance: float) -> None:
        self.child = child
        self.born = now
        self.heard = now
        self.ready: asyncio.Event = asyncio.Event()
        self.stopping = False
        self.hung = False
        self.stubborn = False
        self.retires = ""
        self.exit: Exit | None = None
        self.vitals: Mapping[str, Any] = {}
        self._spread = 1 + SPREAD * (2 * chance - 1)
        self._memory_looked = now
        self._memory_above = 0

    @property
    def works(self) -> bool:
        """Tell whether the child is ready and has not ended."""
        return self.ready.is_set() and self.exit is None

    @property
    def has_worked(self) -> bool:
        """Tell whether the child has said that it did any work."""
        return bool(self.vitals.get("work"))

    def forgive(self, seconds: float) -> None:
        """Shift what is held against the child."""
        self.heard += seconds
        self.born += seconds

    def overdue(self, now: float) -> float | None:
        """Return for how long there has been no sign of life, if that is too long and new."""
        ready, spec = self.ready.is_set(), self.child.spec
        if self.hung or (self.stopping and not ready):  # the time of the latter is limited by that of the stop
            return None
        silent = now - (self.heard if ready else self.born)
        return silent if silent > (spec.liveness_timeout if ready else spec.start_timeout) else None

    def worn_out(self, now: float) -> str | None:
        """Return why the child should be replaced, or None."""
        spec = self.child.spec
        if self.retires:
            return self.retires
        if spec.max_work is not None and self.vitals.get("work", 0) >= spec.max_work * self._spread:
            return f"has done {self.vitals['work']} pieces of work"
        if spec.max_lifetime is not None and now - self.born >= spec.max_lifetime * self._spread:
            return f"is {now - self.born:.0f} s old"
        if spec.max_memory is not None and now - self._memory_looked >= MEMORY_EVERY:
            return self._too_large(spec.max_memory, now)
        return None

    def _too_large(self, limit: int, now: float) -> str | None:
        self._memory_looked = now
        memory = self.child.memory() or 0
        self._memory_above = self._memory_above + 1 if memory > limit else 0
        return f"holds {memory / 1e6:.0f} MB" if self._memory_above > 1 else None
