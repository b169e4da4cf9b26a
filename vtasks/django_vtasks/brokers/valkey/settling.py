"""What became of claims, as the settle script takes it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from django_vtasks.brokers.base import Ack, Bury, Claim, Release, Retry, Settlement
from django_vtasks.brokers.valkey import failed
from django_vtasks.brokers.valkey.entry import NO_LOCK, Entry, lane_of, mutex_of
from django_vtasks.brokers.valkey.keys import MICROSECONDS, Keys
from django_vtasks.brokers.valkey.request import Argument


class Receipt(msgspec.Struct, frozen=True, gc=False):  # which is sooner made than a tuple
    """The number of a claim, never given twice, with where it was made and the lock of its task."""

    number: int
    queue: str
    lock: str


class Verdict(NamedTuple):
    """What shall become of one claim; see ``lua/settle.lua``."""

    verb: str
    receipt: int
    id: str
    lock: str | None = None
    data: str | bytes = b""


def verdict_of(settlement: Settlement) -> Verdict:
    """Return what the script shall do; a lock that outlives its task stays."""
    claim = settlement.claim
    receipt: Receipt = claim.receipt
    mutex = mutex_of(receipt.lock)
    match settlement:
        case Ack():
            return Verdict("ack", receipt.number, claim.envelope.id, mutex)
        case Bury(failure=failure):
            record = failed.record(claim.envelope, receipt.queue, failure)
            return Verdict("bury", receipt.number, claim.envelope.id, mutex, record)
        case Retry(delay=delay):
            data = f"{max(0, round(delay * MICROSECONDS))} {_header(claim)}"
            return Verdict("retry", receipt.number, claim.envelope.id, data=data)
        case Release():
            return Verdict("release", receipt.number, claim.envelope.id)


def receipts_of(settlements: Sequence[Settlement]) -> list[int] | None:
    """Return the receipts of claims that have all ended well and hold no lock; None if one has not, or does."""
    receipts = []
    for settlement in settlements:
        if type(settlement) is not Ack:
            return None
        receipt: Receipt = settlement.claim.receipt
        if receipt.lock != NO_LOCK and mutex_of(receipt.lock) is not None:
            return None
        receipts.append(receipt.number)
    return receipts


def call(
    keys: Keys, flight: str, queue: str, failed_cap: int, verdicts: Iterable[Verdict]
) -> tuple[Sequence[str], Sequence[Argument]]:
    """Return the keys and arguments of one run of the script, for claims of one in-flight record."""
    names = [
        flight,
        keys.waiting(queue),
        keys.delayed(queue),
        keys.suspects(queue),
        keys.bell(queue),
        keys.failed,
        keys.evicted,
    ]
    first_lock = len(names)
    arguments: list[Argument] = [failed_cap]
    for verb, receipt, task_id, lock, data in verdicts:
        number = 0
        if lock is not None:
            names.append(keys.lock(lock))
            number = len(names) - first_lock
        arguments += (verb, receipt, number, task_id, data)
    return names, arguments


def _header(claim: Claim) -> str:
    envelope = claim.envelope
    return Entry(envelope.id, envelope.attempt, envelope.crashes, lane_of(envelope), claim.receipt.lock, b"").header
