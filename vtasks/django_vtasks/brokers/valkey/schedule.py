"""Who leads by the server's clock, and which slots of a schedule are done."""

from django_vtasks.brokers.base import Tick
from django_vtasks.brokers.valkey.keys import MICROSECONDS, Keys
from django_vtasks.brokers.valkey.link import Link
from django_vtasks.brokers.valkey.pushing import New, push_of_any_kind
from django_vtasks.envelope import Envelope


class Schedule:
    """What the scheduler keeps on the server."""

    def __init__(self, keys: Keys, link: Link) -> None:
        self._keys = keys
        self._link = link

    def lead(self, role: str, node: str, ttl: float) -> int | None:
        """Take or keep a role."""
        number = self._link.call("lead", [self._keys.leader(role)], [node, round(ttl * MICROSECONDS)])
        return None if number is None else int(number)

    def resign(self, role: str, node: str) -> None:
        """Give a role up, if it is the node's."""
        self._link.call("resign", [self._keys.leader(role)], [node])

    def leader(self, role: str) -> str | None:
        """Return who leads."""
        node = self._link.call("leader", [self._keys.leader(role)])
        return None if node is None else str(node.decode())

    def tick(self, entry: str, slot: float, envelope: Envelope, *, replicas: int) -> Tick:
        """Record a slot and enqueue its task."""
        push = push_of_any_kind(self._keys, [New.of(envelope)])
        names = [self._keys.slots, *push.keys]
        arguments = [entry, round(slot * MICROSECONDS), *push.arguments]
        answer = self._link.call("tick", names, arguments, replicas=replicas)
        if answer == b"taken":
            return Tick.TAKEN
        return Tick.ENQUEUED if answer else Tick.REFUSED

    def slots(self) -> dict[str, float]:
        """Return the last recorded slot of each entry."""
        slots: dict[bytes, bytes] = self._link.command("HGETALL", self._keys.slots)
        return {entry.decode(): int(slot) / MICROSECONDS for entry, slot in slots.items()}
