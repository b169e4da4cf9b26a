"""Envelopes → requests that add them to their queues."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from libvalkey import pack_command

from django_vtasks.brokers.valkey.entry import Entry, lane_of
from django_vtasks.brokers.valkey.keys import MICROSECONDS, MOST_NAMES, Keys, part
from django_vtasks.brokers.valkey.request import Argument, Request
from django_vtasks.brokers.valkey.scripts import script
from django_vtasks.envelope import Envelope

AT_ONCE = 1000
"""Tasks of one call, during which the server does nothing else."""
BYTES_AT_ONCE = 8 * 1024 * 1024
MILLISECONDS = 1000


class Push(msgspec.Struct, frozen=True, gc=False):
    """A request that adds some tasks, those at these ``places``; if they are plain, all of them or none."""

    request: Request
    places: Sequence[int]
    is_plain: bool

    def accepted(self, answer: Any) -> list[bool]:
        """Return which of the tasks the server says that it has added."""
        return [True] * len(self.places) if self.is_plain else [bool(accepted) for accepted in answer]


def pushes(keys: Keys, envelopes: Sequence[Envelope], payloads: Sequence[bytes]) -> list[Push]:
    """Return what adds tasks: plain ones queue by queue, all others in their order and with what is between them."""
    queues = {
        # Asked here, and not a function, a thousand times in bulk.
        envelope.queue if envelope.unique is None and envelope.run_after is None and envelope.priority <= 0 else None
        for envelope in envelopes
    }
    everywhere = range(len(envelopes))
    if len(envelopes) == 1 and None not in queues:  # of which there is nothing to divide
        return [_plain(keys, envelopes[0].queue, payloads, everywhere)]
    if None in queues:
        return [_of_any_kind(keys, envelopes, payloads, places) for places in _chunks(payloads, everywhere)]
    if len(queues) == 1:  # as nearly always
        return [_plain(keys, envelopes[0].queue, payloads, places) for places in _chunks(payloads, everywhere)]
    by_queue: defaultdict[str, list[int]] = defaultdict(list)
    for place, envelope in enumerate(envelopes):
        by_queue[envelope.queue].append(place)
    return [
        _plain(keys, queue, payloads, places)
        for queue, places_of_one in by_queue.items()
        for places in _chunks(payloads, places_of_one)
    ]


def _chunks(payloads: Sequence[bytes], places: Sequence[int]) -> Iterator[Sequence[int]]:
    """Divide the places of tasks into those that go in one request each."""
    for begin in range(0, len(places), AT_ONCE):
        some = places[begin : begin + AT_ONCE]
        if sum(map(len, _at(some, payloads))) <= BYTES_AT_ONCE:
            yield some
        else:
            yield from ((place,) for place in some)


def _at[T](places: Sequence[int], items: Sequence[T]) -> Sequence[T]:
    return items if len(places) == len(items) else [items[place] for place in places]


def _plain(keys: Keys, queue: str, payloads: Sequence[bytes], places: Sequence[int]) -> Push:
    begin, waiting, end = _transaction(keys, queue)
    packed = pack_command(("LPUSH", waiting, *_at(places, payloads)))
    return Push(Request(b"%b%b%b" % (begin, packed, end), answers=6), places, is_plain=True)


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


def _of_any_kind(keys: Keys, envelopes: Sequence[Envelope], payloads: Sequence[bytes], places: Sequence[int]) -> Push:
    request = script("push").call(*arguments_of_push(_at(places, envelopes), _at(places, payloads), keys))
    return Push(request, places, is_plain=False)


def arguments_of_push(
    envelopes: Sequence[Envelope], payloads: Sequence[bytes], keys: Keys
) -> tuple[Sequence[str], Sequence[Argument]]:
    """Return keys and arguments of the script that adds tasks with locks, times and precedence, to several queues."""
    queues = {queue: place for place, queue in enumerate(dict.fromkeys(envelope.queue for envelope in envelopes), 1)}
    unique_keys = dict.fromkeys(envelope.unique.key for envelope in envelopes if envelope.unique is not None)
    locks = {key: place for place, key in enumerate(unique_keys, 1)}
    names = [keys.queues]
    for queue in queues:
        names += [keys.waiting(queue), keys.delayed(queue), keys.bell(queue)]
    names += map(keys.lock, locks)
    arguments: list[Argument] = [len(queues), *map(part, queues)]
    for envelope, payload in zip(envelopes, payloads, strict=True):
        unique = envelope.unique
        arguments += (
            queues[envelope.queue],
            Entry.new(envelope, payload),
            lane_of(envelope),
            "" if envelope.run_after is None else max(0, round(envelope.run_after * MICROSECONDS)),
            0 if unique is None else locks[unique.key],
            envelope.id,
            0 if unique is None or unique.ttl is None else max(1, round(unique.ttl * MILLISECONDS)),
        )
    return names, arguments
