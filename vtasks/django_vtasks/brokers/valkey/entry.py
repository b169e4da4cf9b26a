"""What is stored of a task: a header that scripts can read, and the payload.

``1 <id> <attempt> <crashes> <lane> <lock>`` and a line feed come before the payload: see docs/reference/protocol.md.
A payload that stands alone is a task that has never ended or crashed, so that a producer need not know more.
"""

import hashlib
import re
from typing import NamedTuple, Self

import msgspec

from django_vtasks import wire
from django_vtasks.envelope import Envelope, Unique
from django_vtasks.errors import PayloadError

FRONT, BACK = "+", "-"
MUTEX, KEPT, NO_LOCK = "m", "k", "-"
LONGEST_ID = 64
_ID = re.compile(rf"[!-~]{{1,{LONGEST_ID}}}")
_WRONG_ID = (
    f"The payload has another id than its entry, or one that is not 1 to {LONGEST_ID} printable ASCII characters."
)
_HEADER = re.compile(rb"1 (%b) (\d{1,9}) (\d{1,9}) ([+-]) (\S{1,100})\n" % _ID.pattern.encode())


class Entry(NamedTuple):
    """An entry apart; ``lock`` is ``-``, or ``m:`` (goes with the task) or ``k:`` (is kept) and the unique key."""

    id: str
    attempt: int
    crashes: int
    lane: str
    lock: str
    payload: bytes

    @staticmethod
    def new(envelope: Envelope, payload: bytes) -> bytes:
        """Return what is stored of a new task: the payload alone, if that says all."""
        if envelope.unique is None and envelope.priority <= 0:
            return payload
        lane, lock = lane_of(envelope), lock_of(envelope.unique)
        return b"%b\n%b" % (f"1 {envelope.id} 0 0 {lane} {lock}".encode(), payload)

    @classmethod
    def parse(cls, stored: bytes) -> Self:
        """Take an entry apart, whatever it is."""
        if match := _HEADER.match(stored):
            task_id, attempt, crashes, lane, lock = match.groups()
            return cls(
                task_id.decode(), int(attempt), int(crashes), lane.decode(), lock.decode("ascii", "replace"),
                stored[match.end() :],
            )  # fmt: skip
        return cls(_id_of(stored), 0, 0, BACK, NO_LOCK, stored)

    @staticmethod
    def opened(stored: bytes, queue: str) -> tuple[Envelope, str, str | None]:
        """Return the envelope for the next attempt, and the lock; or a stand-in, and why the payload cannot be read."""
        if not stored.startswith(b"1 "):  # a payload that stands alone need not be read twice
            try:
                envelope = wire.decode(stored)
            except PayloadError:
                pass
            else:
                if _is_id(envelope.id):
                    return wire.stamped(envelope, attempt=1, crashes=0), NO_LOCK, None
        entry = Entry.parse(stored)
        envelope, problem = entry.read(queue)
        if problem is None:
            wire.stamped(envelope, attempt=entry.attempt + 1, crashes=entry.crashes)
        return envelope, entry.lock, problem

    @property
    def header(self) -> str:
        """Return the line before the payload."""
        return f"1 {self.id} {self.attempt} {self.crashes} {self.lane} {self.lock}"

    def __bytes__(self) -> bytes:
        return b"%s\n%s" % (self.header.encode(), self.payload)

    def read(self, queue: str) -> tuple[Envelope, str | None]:
        """Return the envelope, or a stand-in and why the payload cannot be read."""
        try:
            envelope = wire.decode(self.payload)
        except PayloadError as error:
            return Envelope.unreadable(self.id, queue), str(error)
        if envelope.id != self.id:
            return Envelope.unreadable(self.id, queue), _WRONG_ID
        return envelope, None


def lane_of(envelope: Envelope) -> str:
    """Return the end of the queue where a task goes."""
    return FRONT if envelope.priority > 0 else BACK


def lock_of(unique: Unique | None) -> str:
    """Return what an entry says of a task's lock."""
    return NO_LOCK if unique is None else f"{KEPT if unique.keep else MUTEX}:{unique.key}"


def mutex_of(lock: str) -> str | None:
    """Return the unique key that is free when its task ends, if there is one."""
    return lock[2:] if lock.startswith(f"{MUTEX}:") else None


def _is_id(text: str) -> bool:
    # Nearly all are hexadecimal digits, which is sooner told.
    return (text.isalnum() and text.isascii() and len(text) <= LONGEST_ID) or _ID.fullmatch(text) is not None


class _Id(msgspec.Struct):
    id: str


_id_decoder = msgspec.json.Decoder(_Id)


def _id_of(payload: bytes) -> str:
    """Return the id in a bare payload, or one made of it, so that the failed list can tell what it was."""
    try:
        found = _id_decoder.decode(wire.unpacked(payload)).id
    except (PayloadError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = ""
    return found if _is_id(found) else f"unreadable-{hashlib.sha256(payload).hexdigest()[:16]}"
