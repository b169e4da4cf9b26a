"""Counting and clearing queues."""

from collections.abc import Collection
from itertools import batched

from django_vtasks.brokers.base import Depth
from django_vtasks.brokers.valkey.keys import Keys, name, part
from django_vtasks.brokers.valkey.link import Link

AT_ONCE = 1000
"""Tasks that one call deletes, during which the server does nothing else."""


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
        """Return the queues that hold tasks, sorted; forget those that have none."""
        names = self._known()
        return sorted(
            queue for queue, depth in self.depths(names).items() if any((depth.waiting, depth.delayed, depth.running))
        )

    def suspects(self) -> dict[str, int]:
        """Count the suspects of each queue that has any."""
        counts = {queue: int(self._link.command("LLEN", self._keys.suspects(queue))) for queue in self._known()}
        return {queue: count for queue, count in counts.items() if count}

    def clear(self, queue: str) -> int:
        """Delete the tasks that do not run, with their locks."""
        names = [self._keys.waiting(queue), self._keys.delayed(queue), self._keys.suspects(queue)]
        total = 0
        while cleared := int(self._link.call("clear", names, [self._keys.prefix, AT_ONCE])):
            total += cleared
        return total

    def _known(self) -> list[str]:
        return [name(queue.decode()) for queue in self._link.command("SMEMBERS", self._keys.queues)]
