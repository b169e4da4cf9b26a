"""The contract between publishing, the worker and every store of tasks."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol

import msgspec

from django_vtasks.envelope import Envelope
from django_vtasks.errors import WorkerLost


@dataclass(frozen=True, slots=True)
class Owner:
    """One incarnation of one actor: what a claim belongs to, and what dies as a whole."""

    node: str
    slot: str
    incarnation: int = 1

    def __str__(self) -> str:
        return f"{self.node}:{self.slot}:{self.incarnation}"


class TaskFailure(msgspec.Struct, frozen=True):
    """Why a task failed: the exception's dotted path, its message, and the traceback as text."""

    exception: str
    message: str
    traceback: str = ""


class Claim(msgspec.Struct, frozen=True, gc=False):  # as an Envelope
    """A task taken by an owner; ``receipt`` is the broker's own proof of this very claim.

    ``problem`` says why the payload could not be read; the envelope is then a stand-in.
    """

    envelope: Envelope
    owner: Owner
    receipt: Any
    problem: str | None = None


class Ack(msgspec.Struct, frozen=True, gc=False):
    """The task succeeded, after so many seconds: forget it and free its mutex."""

    claim: Claim
    seconds: float | None = None


class Bury(msgspec.Struct, frozen=True):
    """The task failed for good, after so many seconds if it ran: move it to the failed list and free its mutex."""

    claim: Claim
    failure: TaskFailure
    seconds: float | None = None


class Retry(msgspec.Struct, frozen=True):
    """The task shall start again in ``delay`` seconds; the attempt is spent and its lock stays."""

    claim: Claim
    delay: float


class Release(msgspec.Struct, frozen=True):
    """The task has not been run to its end: give it back as if it had not been claimed."""

    claim: Claim


type Settlement = Ack | Bury | Retry | Release


class Depth(msgspec.Struct, frozen=True):
    """How many tasks of a queue wait for a worker, for their time, and for their end."""

    waiting: int
    delayed: int
    running: int


class FailedTask(msgspec.Struct, frozen=True):
    """An entry of the failed list; ``failed_at`` is in seconds since the epoch.

    ``task`` is the dotted path, empty when the payload is not readable. ``envelope`` is the task as it was claimed, if
    it is asked for by its id and can be read.
    """

    id: str
    queue: str
    task: str
    failure: TaskFailure
    failed_at: float
    attempts: int
    crashes: int
    envelope: Envelope | None = None


class Retrial(Enum):
    """What became of a failed task that shall run again."""

    RETRIED = "retried"
    """It is back in its queue."""
    DUPLICATE = "duplicate"
    """It stays in the failed list, because an equal unique task is under way."""
    UNREADABLE = "unreadable"
    """It stays there, because its payload cannot be read."""
    UNKNOWN = "unknown"
    """It is not in the failed list, or not any more."""


class Running(NamedTuple):
    """A task in flight: an owner runs it, or holds it to run it next.

    ``since`` is when it was claimed, in seconds since the epoch by the store's clock; None when the store keeps no
    account of that. The envelope of a payload that cannot be read is a stand-in.
    """

    envelope: Envelope
    owner: Owner
    since: float | None


class Death(msgspec.Struct, frozen=True):
    """How an owner died.

    ``running`` are the ids of the tasks that it had started and not ended; None when nobody knows, so that all
    it held count. ``traceback`` is a dump of its stacks.
    """

    cause: str
    running: frozenset[str] | None = None
    traceback: str = ""

    def spares(self, task_id: str) -> bool:
        """Tell whether a task that the owner held was certainly not running."""
        return self.running is not None and task_id not in self.running

    def alone(self, held: int) -> bool:
        """Tell whether the owner died on one task alone, of ``held`` tasks."""
        return (held if self.running is None else len(self.running)) == 1

    def failure(self, crashes: int) -> TaskFailure:
        """Return why a task failed that owners died on once too often."""
        return TaskFailure(
            f"{WorkerLost.__module__}.{WorkerLost.__qualname__}",
            f"{self.cause}; {crashes} actors died on this task.",
            self.traceback,
        )


class Verdict(NamedTuple):
    """What a crash does to a task that was running: its crashes from now on, and whether it is given up."""

    crashes: int
    buried: bool


def verdict(crashes: int, max_rescues: int, *, alone: bool) -> Verdict:
    """Return what a crash does to a task; in company nobody knows which task it was, so that none is given up for it.

    A task without rescues is, because it must not run again after any crash.
    """
    counted = crashes + 1
    if alone or max_rescues == 0:
        return Verdict(counted, counted > max_rescues)
    return Verdict(min(counted, max_rescues), buried=False)


class Due(NamedTuple):
    """A slot of a schedule's entry, in seconds since the epoch, whose time has come, and the task to enqueue for it."""

    entry: str
    slot: float
    envelope: Envelope


class Standing(NamedTuple):
    """From when on an entry of the schedule is due, and the last slot of it that was recorded, if any was.

    Both in seconds since the epoch, to the microsecond. ``since`` is by the store's clock: when the entry was first
    registered, or with another timetable.
    """

    since: float
    last: float | None


class Tick(Enum):
    """What became of a slot of a schedule's entry."""

    ENQUEUED = "enqueued"
    REFUSED = "refused"
    """The slot is recorded, but an equal unique task is under way."""
    TAKEN = "taken"
    """Nothing is recorded: this slot has been before, or a later one; or the entry is not registered, or not for it."""
    HELD_UP = "held up"
    """Nothing is known to be recorded, for a reason in the store's log: it is to be tried again."""


class Reclaimed(msgspec.Struct, frozen=True):
    """What became of dead owners' tasks: ids handed back and ids given up as poison."""

    returned: list[str]
    buried: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a store can do; Django's backend and the checks read it."""

    unique: bool
    throttle: bool
    transactional: bool
    """A push joins the caller's database transaction."""
    database: str | None = None
    """The alias of the database whose transaction that is."""
    connections: int | None = None
    """How many connections each actor opens to the database where tasks may open theirs; None: to none of them."""


def nothing() -> None:
    """Do nothing while the answer of a store is on its way."""


class Broker(Protocol):
    """A store of tasks; bulk is the primitive, and every method but push() is safe to repeat.

    Producers and operators call the synchronous half on their own thread; an actor awaits the other half on
    its loop. A call that gets no answer raises BrokerUnavailable within the store's deadline, or the store's
    own error.
    """

    capabilities: Capabilities

    def push(self, envelopes: Sequence[Envelope], meanwhile: Callable[[], object] = nothing) -> list[bool]:
        """Add tasks in order; False at the position of one whose lock another task holds.

        ``meanwhile`` is done while the store's answer is on its way, if there is such a time, or before; again, where
        the store must be asked again, and not at all if there is nothing to add.
        """
        ...

    def apush(self, envelopes: Sequence[Envelope]) -> Awaitable[list[bool]]:
        """Do what push() does without blocking the loop."""
        ...

    def held(self, keys: Collection[str]) -> set[str]:
        """Return those of the unique keys that a task holds, or whose time is not up."""
        ...

    async def claim(
        self, owner: Owner, queue: str, limit: int, *, wait: float = 0.0, suspects: bool = False
    ) -> list[Claim]:
        """Take up to ``limit`` tasks that are due, waiting up to ``wait`` seconds for the first.

        Highest priority first, then oldest first. Take either suspects, which are tasks handed back that have crashed,
        or none of them; and nothing while the queue is paused. Raise LeaseLost when the owner's node has no lease.
        """
        ...

    async def settle(self, owner: Owner, settlements: Sequence[Settlement]) -> list[bool]:
        """Apply what became of claims in one step each; False where the claim is no longer the owner's.

        Of several settlements of one claim the first holds.
        """
        ...

    async def keep_only(self, owner: Owner, held: Collection[Any]) -> int:
        """Give back what the store books on ``owner`` beyond the receipts ``held``; return how many.

        An answer to claim() that never arrived leaves such tasks behind.
        """
        ...

    def depth(self, queue: str) -> Depth:
        """Count the tasks of a queue; suspects wait."""
        ...

    def glance(self, queues: Collection[str]) -> dict[str, Depth]:
        """Do what depth() does for several queues, within a deadline; what is more than 10,000 counts as that many."""
        ...

    def oldest(self, queues: Collection[str]) -> dict[str, float]:
        """Return, of each queue where tasks wait that are due, for how many seconds the oldest of them has been due.

        That is since its enqueue, or since its ``run_after`` when that is later, by the store's clock. However long the
        queue is, this takes the same time: a store that keeps no index of it looks at a few tasks that are next, and at
        the last one. What cannot be read is as old as nothing.
        """
        ...

    def clear(self, queue: str) -> int:
        """Delete the tasks of a queue that do not run, with their locks; return how many.

        What is claimed meanwhile either is deleted or is the owner's, what is pushed meanwhile may stay. However long
        the queue is, nobody else waits long: it is done in many short steps, unless the caller has a transaction.
        """
        ...

    def queues(self) -> list[str]:
        """Return the names of all queues that hold a task, sorted."""
        ...

    def pause(self, queue: str) -> None:
        """Let nobody claim tasks of a queue, also those who wait for one already, until resume(); what runs goes on."""
        ...

    def resume(self, queue: str) -> None:
        """Let the tasks of a queue be claimed again, and wake those who wait for them."""
        ...

    def paused(self) -> set[str]:
        """Return the queues that are paused, whether or not they hold a task."""
        ...

    def running(self, limit: int = 100) -> list[Running]:
        """Return up to ``limit`` of the tasks in flight, in any order."""
        ...

    def failed(self, limit: int = 100, queue: str | None = None) -> list[FailedTask]:
        """Return the newest entries of the failed list, newest first; with ``queue``, those that were in it."""
        ...

    def failed_ids(self) -> list[str]:
        """Return the ids of all failed tasks, each once, in the order in which they failed; nothing else of them."""
        ...

    def failed_task(self, task_id: str) -> FailedTask | None:
        """Return the entry of a failed task, the newest if there are several, with its envelope."""
        ...

    def retry_failed(self, task_ids: Collection[str]) -> dict[str, Retrial]:
        """Move failed tasks back to their queues, each in one step, as new tasks that keep their ids.

        A unique task needs its lock again, which its own former life does not deny it.
        """
        ...

    def delete_failed(self, task_ids: Collection[str]) -> set[str]:
        """Delete failed tasks for good; return the ids of those that there were."""
        ...

    def failed_count(self) -> int:
        """Return the length of the failed list."""
        ...

    def evictions(self) -> int:
        """Return how many failed tasks were dropped, ever, because the list was full."""
        ...

    def clear_failed(self) -> int:
        """Empty the failed list; return how many entries it had."""
        ...

    def close(self) -> None:
        """Let the connections of threads go that are the broker's own; calls open others."""
        ...

    async def aclose(self) -> None:
        """Close what claim() and settle() opened; they open it again when called."""
        ...


class Coordinator(Protocol):
    """Who is alive, by the store's own clock; called from a thread beside the loop."""

    def inspect(self) -> list[str]:
        """Return what the server's settings may cost, in sentences; raise ConfigError when it cannot keep tasks."""
        ...

    def renew(self, node: str, ttl: float) -> bool:
        """Extend the node's lease by ``ttl`` seconds; False when it had run out and was reclaimed (or never was).

        The lease exists afterwards in either case.
        """
        ...

    def leave(self, node: str) -> None:
        """End the node's lease; what its owners still hold goes back at once, no crash counted."""
        ...

    def reclaim(self, owner: Owner, death: Death) -> Reclaimed:
        """Take back what a dead owner held: unharmed what was not running, the rest as verdict() says."""
        ...

    def reclaim_expired(self, own: str, cause: str, among: Collection[str] | None = None) -> Reclaimed:
        """Do what reclaim() does for every owner whose node has no lease any more; drop locks that have lapsed.

        A node keeps a lease that has run out unless it is ``among`` those named, if any are. Leave the node ``own``,
        whose call this is, as it is: it lives, however late it comes.
        """
        ...

    def suspects(self) -> dict[str, int]:
        """Return how many suspects wait, by queue."""
        ...

    def connection_limit(self) -> int | None:
        """Return how many connections the server allows in all; None when it has no limit."""
        ...

    def nodes(self) -> dict[str, float]:
        """Return each node with the seconds that its lease still has."""
        ...

    def publish(self, node: str, report: str) -> None:
        """Note what a node says of itself, in the place of what it said before; it is forgotten with its lease.

        Without a lease there is nothing to note.
        """
        ...

    def reports(self) -> dict[str, str]:
        """Return what each node that has said anything last said of itself."""
        ...

    def lead(self, role: str, node: str, ttl: float) -> int | None:
        """Take the leadership of a role for ``ttl`` seconds, or keep it; None while another node has it.

        Return a number that grows with each change of the leader.
        """
        ...

    def resign(self, role: str, node: str) -> None:
        """Give up the leadership, if it is the node's, so that another may take it at once."""
        ...

    def leader(self, role: str) -> str | None:
        """Return the node that leads, if any does."""
        ...

    def register(self, entries: Mapping[str, str]) -> dict[str, Standing]:
        """Note a schedule: its entries, each with what tells its timetable from another; return how each stands.

        An entry that is new, or has another timetable than before, is due from now on by the store's clock. One that is
        not named is forgotten.
        """
        ...

    def tick(self, dues: Sequence[Due]) -> list[Tick]:
        """Record each slot and enqueue its task, in one step for each; see Tick.

        Whoever does this, leader or not, and however often: each slot is enqueued once. Those of one entry ascend.
        Raise before anything is recorded when a task cannot be encoded; never when something is known to be recorded.
        """
        ...

    def standings(self) -> dict[str, Standing]:
        """Return how each registered entry stands."""
        ...
