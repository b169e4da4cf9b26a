"""What a supervisor and a child say to each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# To the child ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tell:
    """A message for the actor's mailbox."""

    message: Any


@dataclass(frozen=True, slots=True)
class Stop:
    """Finish within ``timeout`` seconds; the next Stop may be more urgent."""

    timeout: float
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Take no new work."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Take new work again."""


# To the supervisor -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """The actor has started; ``facts`` are about the process it runs in."""

    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unsuitable:
    """The process was made in a way that is not safe, for this reason; it ends without having started."""

    reason: str


@dataclass(frozen=True, slots=True)
class Beat:
    """The loop runs; it was ``lag`` seconds late, and ``peak`` bytes is the most memory the process ever held."""

    vitals: Mapping[str, Any]
    lag: float
    peak: int | None


@dataclass(frozen=True, slots=True)
class Said:
    """A message of the actor."""

    message: Any


@dataclass(frozen=True, slots=True)
class Retiring:
    """The actor asks for a successor."""

    reason: str


@dataclass(frozen=True, slots=True)
class Leaving:
    """The actor has stopped in order; the last frame. A task that calls os._exit(0) does not send it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The actor ends because of an exception."""

    error: str
    traceback: str


type Frame = Tell | Stop | Pause | Resume | Ready | Unsuitable | Beat | Said | Retiring | Leaving | Failed
