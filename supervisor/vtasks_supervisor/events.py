"""Frozen facts about children, for whoever listens."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Cause(Enum):
    """Why a child ended."""

    PLANNED = "as planned"
    UNSUITED = "to be started in another way"
    NOT_STARTED = "could not be started"
    CRASHED = "crashed"
    HUNG = "hung and was killed"
    STUBBORN = "did not stop when it was told to, and was killed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a child ended, as far as is known; a negative ``code`` is a signal's number."""

    cause: Cause
    code: int | None = None
    error: str = ""
    """The type of an exception, a colon, and its text."""
    traceback: str = ""
    dump: str = ""
    """The stacks that a hung child wrote."""
    peak_memory: int | None = None
    notes: tuple[bytes, ...] | None = None
    """What stood in the child's recorder; None when it had none."""

    @property
    def reason(self) -> str:
        """Say in words what ended the child."""
        return self._reason(self.error)

    @property
    def outline(self) -> str:
        """Say the same without the text of an exception, which may hold secrets."""
        return self._reason(self.error.partition(":")[0])

    def _reason(self, error: str) -> str:
        if self.cause is Cause.HUNG:
            return f"hung ({self.status})"
        if self.cause is Cause.STUBBORN:
            return f"did not stop in time ({self.status})"
        return f"{error} ({self.status})" if error else self.status

    @property
    def status(self) -> str:
        """Return the signal's name or the exit code."""
        if self.code is None:
            return "exit code unknown"
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"signal {signal.Signals(-self.code).name}"
        except ValueError:
            return f"signal {-self.code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildEvent:
    """Something about one child: the ``incarnation``-th of the place ``name``."""

    name: str
    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildReady(ChildEvent):
    """A child takes messages; ``seconds`` is what the start took."""

    seconds: float
    pid: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildBeat(ChildEvent):
    """A child's loop runs."""

    vitals: Mapping[str, Any]
    lag: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSaid(ChildEvent):
    """A child has a message."""

    message: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildHung(ChildEvent):
    """A child gave no sign of life for ``silent`` seconds, and will be killed."""

    silent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildExited(ChildEvent):
    """A child is gone."""

    exit: Exit


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildDegraded(ChildEvent):
    """A place fails again and again; it is still tried, with long pauses."""

    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRecovered(ChildEvent):
    """A degraded place works again."""


@dataclass(frozen=True, slots=True)
class TreeReady:
    """Every place has been ready once."""


@dataclass(frozen=True, slots=True)
class TreeStopping:
    """The tree drains."""


type Event = (
    ChildReady
    | ChildBeat
    | ChildSaid
    | ChildHung
    | ChildExited
    | ChildDegraded
    | ChildRecovered
    | TreeReady
    | TreeStopping
)
type Hook = Callable[[Event], object]
