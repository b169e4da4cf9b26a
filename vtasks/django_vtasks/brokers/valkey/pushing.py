"""Envelopes → calls of the push scripts."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import batched, groupby
from operator import attrgetter
from typing import Any, NamedTuple, Self

from django_vtasks import wire
from django_vtasks.brokers.valkey.entry import Entry, lane_of
from django_vtasks.brokers.valkey.keys import MICROSECONDS, MOST_NAMES, Keys, part
from django_vtasks.brokers.valkey.scripts import Argument
from django_vtasks.envelope import Envelope

AT_ONCE = 1000
"""Tasks of one call, during which the server does nothing else."""
BYTES_AT_ONCE = 8 * 1024 * 1024
MILLISECONDS = 1000


class Push(NamedTuple):
    """One call of a script, and how many tasks it is for; the plain one takes them all."""

    script: str
    keys: Sequence[str]
    arguments: Sequence[Argument]
    size: int

    def accepted(self, answer: Any) -> list[bool]:
        """Return which of the tasks the script says that it has added."""
        return [bool(accepted) for accepted in answer] if isinstance(answer, list) else [True] * self.size


class New(NamedTuple):
    """A task about to be added, with what is stored of it.

    ``plain_queue`` is the queue at whose end a place is all that the task needs; None when it needs more.
    """

    plain_queue: str | None
    entry: bytes
    envelope: Envelope

    @classmethod
    def of(cls, envelope: Envelope) -> Self:
        """Encode a task; raise for one that cannot be."""
        entry = Entry.new(envelope, wire.encode(envelope))
        is_plain = envelope.unique is None and envelope.run_after is None and envelope.priority <= 0
        return cls(envelope.queue if is_plain else None, entry, envelope)


def pushes(keys: Keys, new: Sequence[New]) -> list[Push]:
    """Return the calls that add tasks in order."""
    if len(new) == 1 and (queue := new[0].plain_queue) is not None:
        return [_plain(keys, queue, new)]  # as most are; the rest takes longer than all else
    return [
        push_of_any_kind(keys, chunk) if plain_queue is None else _plain(keys, plain_queue, chunk)
        for plain_queue, some in groupby(new, attrgetter("plain_queue"))
        for chunk in _chunks(list(some))
    ]


def _chunks(new: Sequence[New]) -> Iterator[Sequence[New]]:
    for some in batched(new, AT_ONCE):
        if sum([len(task.entry) for task in some]) <= BYTES_AT_ONCE:
            yield some
        else:
            yield from ((task,) for task in some)


@lru_cache(maxsize=MOST_NAMES)
def _keys_of_plain(keys: Keys, queue: str) -> Sequence[str]:
    return keys.waiting(queue), keys.bell(queue), keys.queues


def _plain(keys: Keys, queue: str, new: Sequence[New]) -> Push:
    return Push("push", _keys_of_plain(keys, queue), [part(queue), *[task.entry for task in new]], len(new))


def push_of_any_kind(keys: Keys, new: Sequence[New]) -> Push:
    """Return the call that adds tasks with locks, times and precedence, for several queues."""
    queues = {queue: place for place, queue in enumerate(dict.fromkeys(task.envelope.queue for task in new), 1)}
    unique_keys = dict.fromkeys(task.envelope.unique.key for task in new if task.envelope.unique is not None)
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
    return Push("push_any", names, arguments, len(new))
