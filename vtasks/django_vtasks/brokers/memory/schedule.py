"""Who leads, and which slots of a schedule are done."""

from dataclasses import dataclass


@dataclass(slots=True)
class _Leadership:
    node: str
    expires: float
    number: int


class Leaders:
    """The leader of each role; ``now`` is in seconds on the broker's clock."""

    def __init__(self) -> None:
        self._by_role: dict[str, _Leadership] = {}

    def lead(self, role: str, node: str, expires: float, now: float) -> int | None:
        """Take or keep a role."""
        held = self._by_role.setdefault(role, _Leadership("", 0.0, 0))
        if held.node != node:
            if held.expires > now:
                return None
            held.node = node
            held.number += 1
        held.expires = expires
        return held.number

    def resign(self, role: str, node: str) -> None:
        """Give a role up, if it is the node's."""
        held = self._by_role.get(role)
        if held is not None and held.node == node:
            held.node, held.expires = "", 0.0

    def leader(self, role: str, now: float) -> str | None:
        """Return who leads."""
        held = self._by_role.get(role)
        return held.node if held is not None and held.expires > now else None


class Slots:
    """The last slot of each entry."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}

    def take(self, entry: str, slot: float) -> bool:
        """Record a slot; False when it, or a later one, has been recorded."""
        if slot <= self.last.get(entry, float("-inf")):
            return False
        self.last[entry] = slot
        return True
