"""The failed list: a capped list of records, newest first.

A record is the time in microseconds since the epoch, a space, JSON without line feeds, a line feed, and the entry as it
was claimed, from which the task can be enqueued again.
"""

import msgspec

from django_vtasks.brokers.base import FailedTask, TaskFailure
from django_vtasks.brokers.valkey.keys import MICROSECONDS, Keys
from django_vtasks.brokers.valkey.link import Link
from django_vtasks.envelope import Envelope


class _Record(msgspec.Struct):
    id: str
    queue: str
    task: str
    failure: TaskFailure
    attempts: int
    crashes: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Record)


def record(envelope: Envelope, queue: str, failure: TaskFailure) -> bytes:
    """Return the JSON of a record; what UTF-8 cannot say is escaped."""
    fields = _Record(envelope.id, queue, envelope.task, failure, envelope.attempt, envelope.crashes)
    try:
        return _encoder.encode(fields)
    except ValueError:  # lone surrogates
        fields.failure = TaskFailure(*(map(_storable, (failure.exception, failure.message, failure.traceback))))
        return _encoder.encode(fields)


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class FailedList:
    """What operators see of it."""

    def __init__(self, keys: Keys, link: Link) -> None:
        self._keys = keys
        self._link = link

    def newest(self, limit: int) -> list[FailedTask]:
        """Return the newest entries, newest first."""
        stored: list[bytes] = self._link.command("LRANGE", self._keys.failed, 0, limit - 1) if limit > 0 else []
        return [_parse(record) for record in stored]

    def count(self) -> int:
        """Return the number of entries."""
        return int(self._link.command("LLEN", self._keys.failed))

    def evictions(self) -> int:
        """Return how many entries the cap has cost so far."""
        return int(self._link.command("GET", self._keys.evicted) or 0)

    def clear(self) -> int:
        """Delete all entries; return how many there were."""
        # A list that grows meanwhile is trimmed by as much as was there.
        count = self.count()
        if count:
            self._link.command("LTRIM", self._keys.failed, 0, -count - 1)
        return count


def _parse(stored: bytes) -> FailedTask:
    line, _, _ = stored.partition(b"\n")
    time, _, body = line.partition(b" ")
    try:
        fields, microseconds = _decoder.decode(body), int(time)
    except ValueError:  # msgspec's too: somebody else has written here, and the others shall be seen all the same
        failure = TaskFailure("django_vtasks.errors.PayloadError", "This is no record of a failed task.")
        return FailedTask("", "", "", failure, 0.0, 0, 0)
    return FailedTask(
        id=fields.id,
        queue=fields.queue,
        task=fields.task,
        failure=fields.failure,
        failed_at=microseconds / MICROSECONDS,
        attempts=fields.attempts,
        crashes=fields.crashes,
    )
