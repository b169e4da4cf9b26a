"""The names of all keys, in one place; docs/reference/protocol.md tells what each holds.

All begin with the prefix, whose part in braces puts them into one slot of a cluster. Scripts that follow from one key
to others build these names too: see ``lua/prelude.lua``.
"""

from functools import lru_cache

from django_vtasks.brokers.base import Owner

MICROSECONDS = 1_000_000
"""All times on the server are in these, since the epoch, by its own clock."""
MOST_NAMES = 1024
"""Names, of queues most of all, whose keys are remembered."""


@lru_cache(maxsize=MOST_NAMES)
def part(name: str) -> str:
    """Return a name as it stands in a key, where colons separate the parts."""
    return name.replace("%", "%25").replace(":", "%3A")


def name(part_: str) -> str:
    """Return the name that stands in a key."""
    return part_.replace("%3A", ":").replace("%25", "%")


class Keys:
    """The keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.queues = f"{prefix}:queues"
        self.paused = f"{prefix}:paused"
        self.nodes = f"{prefix}:nodes"
        self.reports = f"{prefix}:reports"
        self.holding = f"{prefix}:holding"
        self.receipts = f"{prefix}:receipts"
        self.failed = f"{prefix}:failed"
        self.schedule = f"{prefix}:schedule"
        self.slots = f"{prefix}:slots"
        self.evicted = f"{prefix}:evicted"

    def leader(self, role: str) -> str:
        """Return the hash of who leads in a role."""
        return f"{self.prefix}:leader:{part(role)}"

    def waiting(self, queue: str) -> str:
        """Return the list of a queue; the next task is the last element."""
        return f"{self.prefix}:waiting:{part(queue)}"

    def delayed(self, queue: str) -> str:
        """Return the sorted set of tasks by the time at which they are due, in microseconds since the epoch."""
        return f"{self.prefix}:delayed:{part(queue)}"

    def suspects(self, queue: str) -> str:
        """Return the list of a queue's suspects."""
        return f"{self.prefix}:suspects:{part(queue)}"

    def bell(self, queue: str) -> str:
        """Return the list on which idle claims of a queue block."""
        return f"{self.prefix}:bell:{part(queue)}"

    def lock(self, key: str) -> str:
        """Return the string that holds the id of the task with this unique key."""
        return f"{self.prefix}:lock:{key}"

    def holders(self, node: str) -> str:
        """Return the set of what may have tasks in flight on a node: see holder()."""
        return f"{self.prefix}:holders:{part(node)}"

    def flight(self, owner: Owner, queue: str) -> str:
        """Return the hash of an owner's claims in a queue, by receipt."""
        return f"{self.prefix}:flight:{part(owner.node)}:{holder(owner, queue)}"


def slot(owner: Owner) -> str:
    """Return the part of an owner's in-flight records that names it on its node."""
    return f"{part(owner.slot)}:{owner.incarnation}:"


def holder(owner: Owner, queue: str) -> str:
    """Return an owner, as its node knows it, with a queue."""
    return slot(owner) + part(queue)
