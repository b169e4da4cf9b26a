"""What became of a claim, as data."""

from collections.abc import Callable
from traceback import format_exception

import msgspec

from django_vtasks.brokers.base import TaskFailure

MAX_MESSAGE = 2_000
MAX_TRACEBACK = 64_000
"""Characters kept of a message and of the end of a traceback."""


class Succeeded(msgspec.Struct, frozen=True):
    """The function returned."""


class Failed(msgspec.Struct, frozen=True):
    """The function raised, or could not be called."""

    failure: TaskFailure


class Cancelled(msgspec.Struct, frozen=True):
    """The worker stopped before the function ended."""


class Postponed(msgspec.Struct, frozen=True):
    """The worker lacked the means to run the function, or an async one to its end; try again in ``delay`` seconds."""

    delay: float


type Outcome = Succeeded | Failed | Cancelled | Postponed

SUCCEEDED = Succeeded()
CANCELLED = Cancelled()


def failure_of(error: BaseException) -> TaskFailure:
    """Return an exception as text, however odd the exception."""
    kind = type(error)
    return TaskFailure(
        exception=f"{kind.__module__}.{kind.__qualname__}",
        message=_text(lambda: str(error))[:MAX_MESSAGE],
        traceback=_text(lambda: "".join(format_exception(error)))[-MAX_TRACEBACK:],
    )


def _text(describe: Callable[[], str]) -> str:
    try:
        return describe()
    except BaseException as error:  # noqa: BLE001 - user code: an exception's own __str__ may raise anything
        return f"<{type(error).__name__} while describing the exception>"
