"""Envelopes → requests that add them to their queues."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import batched, groupby
from operator import itemgetter
from typing import Any

import msgspec
from libvalkey import pack_command

from django_vtasks import wire
from django_vtasks.brokers.valkey.entry import Entry, lane_of
from django_vtasks.brokers.valkey.keys import MICROSECONDS, MOST_NAMES, Keys, part
from django_vtasks.brokers.valkey.request import Argument, Request
from django_vtasks.brokers.valkey.scripts import script
from django_vtasks.envelope import Envelope

AT_ONCE = 1000
"""Tasks of one call, during which the server does nothing else."""
BYTES_AT_ONCE = 8 * 1024 * 1024
MILLISECONDS = 1000


type New = tuple[str | None, bytes, Envelope]
"""A task about to be added: its plain queue, what is stored of it, and the task.

The plain queue is the one at whose end a place is all that the task needs; None when it needs more.
"""


class Push(msgspec.Struct, frozen=True, gc=False):
    """A request that adds ``size`` tasks; if they are plain, all of them or none."""

    request: Request
    size: int
    is_plain: bool

    def accepted(self, answer: Any) -> list[bool]:
        """Return which of the tasks the server says that it has added."""
        return [True] * self.size if self.is_plain else [bool(accepted) for accepted in answer]


def new_of(envelope: Envelope) -> New:
    """Encode a task; raise for one that cannot be."""
    payload = wire.encode(envelope)
    if envelope.unique is None and envelope.run_after is None and envelope.priority <= 0:
        return envelope.queue, payload, envelope
    return None, Entry.new(envelope, payload), envelope


def pushes(keys: Keys, new: Sequence[New]) -> list[Push]:
    """Return what adds tasks in order."""
    queues = {queue for queue, _, _ in new}
    # As nearly all are: plain ones of the same queue.
    runs = (
        [(queues.pop(), new)] if len(queues) == 1 else [(queue, list(run)) for queue, run in groupby(new, _PLAIN_QUEUE)]
    )
    return [
        _of_any_kind(keys, chunk) if queue is None else _plain(keys, queue, chunk)
        for queue, run in runs
        for chunk in _chunks(run)
    ]


_PLAIN_QUEUE = itemgetter(0)


def _chunks(new: Sequence[New]) -> Iterator[Sequence[New]]:
    for some in batched(new, AT_ONCE):
        if sum([len(entry) for _, entry, _ in some]) <= BYTES_AT_ONCE:
            yield some
        else:
            yield from ((task,) for task in some)


def _plain(keys: Keys, queue: str, new: Sequence[New]) -> Push:
    begin, waiting, end = _transaction(keys, queue)
    packed = pack_command(("LPUSH", waiting, *[entry for _, entry, _ in new]))
    return Push(Request(b"%b%b%b" % (begin, packed, end), answers=6), len(new), is_plain=True)


@lru_cache(maxsize=MOST_NAMES)
def _transaction(keys: Keys, queue: str) -> tuple[bytes, str, bytes]:
    """Return what comes before and after the tasks, with the list that they go to between.

    A transaction takes half the server's time that a script does, of which hundreds of arguments make most.
    """
    bell = keys.bell(queue)
    begin = (("MULTI",), ("SADD", keys.queues, part(queue)))
    # A bell that nobody hears must not grow.
    end = (("LPUSH", bell, "1"), ("LTRIM", bell, 0, 0), ("EXEC",))
    return b"".join(map(pack_command, begin)), keys.waiting(queue), b"".join(map(pack_command, end))


def _of_any_kind(keys: Keys, new: Sequence[New]) -> Push:
    return Push(script("push").call(*push_of_any_kind(keys, new)), len(new), is_plain=False)


def push_of_any_kind(keys: Keys, new: Sequence[New]) -> tuple[Sequence[str], Sequence[Argument]]:
    """Return keys and arguments of the script that adds tasks with locks, times and precedence, to several queues."""
    queues = {queue: place for place, queue in enumerate(dict.fromkeys(envelope.queue for *_, envelope in new), 1)}
    unique_keys = dict.fromkeys(envelope.unique.key for *_, envelope in new if envelope.unique is not None)
    locks = {key: place for place, key in enumerate(unique_keys, 1)}
    names = [keys.queues]
    for queue in queues:
        names += [keys.waiting(queue), keys.delayed(queue), keys.bell(queue)]
    names += map(keys.lock, locks)
    arguments: list[Argument] = [len(queues), *map(part, queues)]
    for _, entry, envelope in new:
        unique = envelope.unique
        arguments += (
            queues[envelope.queue],
            entry,
            lane_of(envelope),
            "" if envelope.run_after is None else max(0, round(envelope.run_after * MICROSECONDS)),
            0 if unique is None else locks[unique.key],
            envelope.id,
            0 if unique is None or unique.ttl is None else max(1, round(unique.ttl * MILLISECONDS)),
        )
    return names, arguments
