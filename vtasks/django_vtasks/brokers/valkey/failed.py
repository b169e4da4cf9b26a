"""The failed list: a capped list of records, newest first.

A record is the time in microseconds since the epoch, a space, JSON without line feeds, a line feed, and the entry as it
was claimed, from which the task can be enqueued again.
"""

from collections.abc import Collection, Iterator
from itertools import count, islice

import msgspec

from django_vtasks import wire
from django_vtasks.brokers.base import FailedTask, TaskFailure
from django_vtasks.brokers.valkey.entry import Entry
from django_vtasks.brokers.valkey.keys import MICROSECONDS, Keys
from django_vtasks.brokers.valkey.link import Link
from django_vtasks.envelope import Envelope

PAGE = 100
"""Records that one call brings."""
LOOKS = 2
"""At all records, before one is said not to be there: while others are deleted, one may slip from page to page."""


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

    def newest(self, limit: int, queue: str | None) -> list[FailedTask]:
        """Return the newest entries, newest first."""
        if queue is not None:
            entries = (parse(stored) for stored in self._records())
            return list(islice((entry for entry in entries if entry.queue == queue), limit))
        stored: list[bytes] = self._link.command("LRANGE", self._keys.failed, 0, limit - 1) if limit > 0 else []
        return [parse(record) for record in stored]

    def ids(self) -> list[str]:
        """Return the ids of all entries, oldest first."""
        newest_first = [parse(stored).id for stored in self._records()]
        return list(dict.fromkeys(task_id for task_id in reversed(newest_first) if task_id))

    def find(self, task_ids: Collection[str]) -> dict[str, bytes]:
        """Return the newest record of each of these tasks that has one."""
        found: dict[str, bytes] = {}
        for _ in range(LOOKS):
            for stored in self._records():
                task_id = parse(stored).id
                if task_id in task_ids:
                    found.setdefault(task_id, stored)
                if len(found) == len(task_ids):
                    return found
        return found

    def entry(self, task_id: str) -> FailedTask | None:
        """Return the newest entry of a task with its envelope."""
        stored = self.find({task_id}).get(task_id)
        return None if stored is None else msgspec.structs.replace(parse(stored), envelope=envelope_of(stored))

    def delete(self, task_ids: Collection[str]) -> set[str]:
        """Delete the records of tasks; return the ids of those that there were."""
        deleted: set[str] = set()
        # A task may have more than one, where a producer gave its id twice.
        while found := self.find(set(task_ids)):
            deleted |= {
                task_id for task_id, stored in found.items() if self._link.command("LREM", self._keys.failed, 1, stored)
            }
        return deleted

    def _records(self) -> Iterator[bytes]:
        """Yield the records, newest first; one that is added meanwhile lets another come twice."""
        for start in count(0, PAGE):
            page: list[bytes] = self._link.command("LRANGE", self._keys.failed, start, start + PAGE - 1)
            yield from page
            if len(page) < PAGE:
                return

    def count(self) -> int:
        """Return the number of entries."""
        return int(self._link.command("LLEN", self._keys.failed))

    def evictions(self) -> int:
        """Return how many entries the cap has cost so far."""
        return int(self._link.command("GET", self._keys.evicted) or 0)

    def clear(self) -> int:
        """Delete all entries; return how many there were."""
        return int(self._link.call("clear_failed", [self._keys.failed]))


def entry_of(stored: bytes) -> Entry:
    """Return the entry that a record ends with."""
    return Entry.parse(stored.partition(b"\n")[2])


def envelope_of(stored: bytes) -> Envelope | None:
    """Return the task of a record, or None when it cannot be read."""
    fields = parse(stored)
    envelope, problem = entry_of(stored).read(fields.queue)
    return None if problem else wire.stamped(envelope, attempt=fields.attempts, crashes=fields.crashes)


def parse(stored: bytes) -> FailedTask:
    """Return the entry that a record is, without its envelope."""
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
