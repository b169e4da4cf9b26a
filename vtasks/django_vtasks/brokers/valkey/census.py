"""Counting and clearing queues."""

from collections.abc import Collection
from itertools import batched, chain

from django_vtasks.brokers.base import Depth
from django_vtasks.brokers.valkey.entry import Entry
from django_vtasks.brokers.valkey.keys import MICROSECONDS, Keys, name, part
from django_vtasks.brokers.valkey.link import Link
from django_vtasks.brokers.valkey.request import Argument

AT_ONCE = 1000
"""Tasks that one call deletes, during which the server does nothing else."""

BYTES_AT_ONCE = 4 * 1024 * 1024
"""Or the bytes of these, if that is less; a task may be larger."""
NEXT, ROOM = 5, 256 * 1024
"""Entries of a list, and bytes of all but the first of them, that are read to tell its age."""


class Census:
    """What stands in the queues."""

    def __init__(self, keys: Keys, link: Link) -> None:
        self._keys = keys
        self._link = link

    def depths(self, queues: Collection[str]) -> dict[str, Depth]:
        """Count the tasks of queues; a delayed one whose time has come waits, whether or not a claim has seen it."""
        counts = self._link.call("depth", [self._keys.holding], [self._keys.prefix, *map(part, queues)])
        return {queue: Depth(*map(int, some)) for queue, some in zip(queues, batched(counts, 3), strict=True)}

    def queues(self) -> list[str]:
        """Return the queues that hold tasks, sorted; those are left out that once held some."""
        names = self._known()
        return sorted(
            queue for queue, depth in self.depths(names).items() if any((depth.waiting, depth.delayed, depth.running))
        )

    def suspects(self) -> dict[str, int]:
        """Count the suspects of each queue that has any."""
        counts = {queue: int(self._link.command("LLEN", self._keys.suspects(queue))) for queue in self._known()}
        return {queue: count for queue, count in counts.items() if count}

    def oldest(self, queues: Collection[str]) -> dict[str, float]:
        """Return, of each queue where tasks wait, for how many seconds the oldest of them has been due.

        Of a list that is the oldest among the next few and the last one. Where there are more than a few urgent tasks,
        which overtake each other, those behind them are not seen: the age then is that of an urgent one. A task that is
        tried again is as old as it was.
        """
        arguments: list[Argument] = [self._keys.prefix, NEXT, ROOM, *map(part, queues)]
        now, *answers = self._link.call("oldest", [self._keys.queues], arguments)
        ages = {}
        for queue, (due, *entries) in zip(queues, answers, strict=True):
            since = [_due_since(stored, queue, now) for stored in entries]
            if since or due >= 0:
                moment = min(chain(since, [due / MICROSECONDS] if due >= 0 else []))
                ages[queue] = max(0.0, now / MICROSECONDS - moment)
        return ages

    def clear(self, queue: str) -> int:
        """Delete as many tasks that do not run as there are now, with their locks."""
        names = [self._keys.waiting(queue), self._keys.delayed(queue), self._keys.suspects(queue)]
        depth, total = self.depths([queue])[queue], 0
        left = depth.waiting + depth.delayed
        while left > 0:
            some: list[Argument] = [self._keys.prefix, min(left, AT_ONCE), BYTES_AT_ONCE]
            cleared = int(self._link.call("clear", names, some))
            if not cleared:
                break
            total, left = total + cleared, left - cleared
        return total

    def _known(self) -> list[str]:
        return [name(queue.decode()) for queue in self._link.command("SMEMBERS", self._keys.queues)]


def _due_since(stored: bytes, queue: str, now: int) -> float:
    """Return from when on a task may run, or now if it cannot be read."""
    envelope, problem = Entry.parse(stored).read(queue)
    return now / MICROSECONDS if problem else envelope.due_since
