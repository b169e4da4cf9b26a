"""What can go wrong, one class per decision that a caller can take."""

from collections.abc import Mapping

from django.core.exceptions import ImproperlyConfigured
from django.tasks.exceptions import InvalidTask

__all__ = [
    "BatchFailed",
    "BrokerUnavailable",
    "ConfigError",
    "InvalidTask",
    "LeaseLost",
    "NotReplicated",
    "PayloadError",
    "PayloadTooLarge",
    "TaskUnavailable",
    "UnknownTask",
    "VTasksError",
    "WorkerLost",
]


class VTasksError(Exception):
    """The root of this package's own errors."""


class ConfigError(VTasksError, ImproperlyConfigured):
    """A setting is wrong; the message names it and, if there is one, the nearest valid name."""


class PayloadError(VTasksError):
    """Stored bytes are not a task that this version can read."""


class PayloadTooLarge(PayloadError, ValueError):
    """A task's arguments exceed the size that may be stored."""


class BrokerUnavailable(VTasksError):
    """The broker did not answer within the deadline; the call may be repeated."""


class NotReplicated(BrokerUnavailable):
    """Tasks are enqueued, but on fewer replicas than OPTIONS["MIN_REPLICAS"] asks for; repeated, they run twice.

    ``answer`` is what the store said when it had enqueued them.
    """

    def __init__(self, *args: object, answer: object = None) -> None:
        super().__init__(*args)
        self.answer = answer


class LeaseLost(VTasksError):
    """This node's lease ran out and its tasks were given to others."""


class UnknownTask(VTasksError):
    """No registered task has this dotted path."""


class TaskUnavailable(VTasksError):
    """The task's module is there, but this worker could not import it."""


class WorkerLost(VTasksError):
    """The actor that ran the task died."""


class BatchFailed(VTasksError):
    """Raised by a batch function: the members with these ids failed, each for its own reason, and the others are done.

    Raise TypeError for anything but a mapping of ids to exceptions.
    """

    def __init__(self, errors: Mapping[str, BaseException]) -> None:
        is_mapping = isinstance(errors, Mapping)  # users' code is not all checked for types
        if not is_mapping or not all(isinstance(error, BaseException) for error in errors.values()):
            raise TypeError("BatchFailed takes a mapping of members' ids to exceptions.")
        super().__init__(f"{len(errors)} members of a batch failed.")
        self.errors = dict(errors)


def kind_of(value: object) -> str:
    """Name what is wrong without showing it: arguments hold secrets, and errors reach logs."""
    return f"of type {type(value).__qualname__}"
