"""Who is alive by the server's clock, and what becomes of the tasks of those who are not."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import batched
from typing import Any, NamedTuple

from django_vtasks import wire
from django_vtasks.brokers import base
from django_vtasks.brokers.base import Death, Owner, Reclaimed, Running
from django_vtasks.brokers.valkey import failed, settling
from django_vtasks.brokers.valkey import keys as key_names
from django_vtasks.brokers.valkey.connector import IN_ALL
from django_vtasks.brokers.valkey.entry import Entry, mutex_of
from django_vtasks.brokers.valkey.keys import MICROSECONDS, Keys
from django_vtasks.brokers.valkey.link import Link
from django_vtasks.brokers.valkey.request import Argument
from django_vtasks.brokers.valkey.settling import Verdict
from django_vtasks.brokers.valkey.threads import Within

HASTE = 0.8
"""Of the time that a renewal buys, what a call may take: the next still comes in time when one connection is dead."""
AT_ONCE = 500
"""Claims that one call of the script takes back."""


class _Held(NamedTuple):
    """A claim of a dead owner: ``holder`` as in Keys, on ``node``, which is a part of keys too."""

    node: str
    holder: str
    receipt: int
    entry: Entry

    @property
    def queue(self) -> str:
        return key_names.name(self.holder.rpartition(":")[2])

    @property
    def owner(self) -> tuple[str, str]:
        """Return what distinguishes owners."""
        return self.node, self.holder.rpartition(":")[0]


class Leases:
    """The coordinator's half of the broker; its methods block."""

    def __init__(self, keys: Keys, link: Link, failed_cap: int) -> None:
        self._keys = keys
        self._link = link
        self._failed_cap = failed_cap
        self._within = IN_ALL

    def renew(self, node: str, ttl: float) -> bool:
        """Extend a lease; False when it had to be made anew."""
        self._within = min(IN_ALL, HASTE * ttl)
        names = [self._keys.nodes, self._keys.holding]
        return bool(self._ask("renew", names, [key_names.part(node), round(ttl * MICROSECONDS)]))

    def leave(self, node: str) -> None:
        """End a lease and give back what its owners hold."""
        names = [self._keys.nodes, self._keys.holders(node), self._keys.holding, self._keys.reports]
        self._ask("leave", names, [self._keys.prefix, key_names.part(node)])

    def nodes(self) -> dict[str, float]:
        """Return the seconds left of each lease."""
        answer = self._ask("nodes", [self._keys.nodes])
        return {key_names.name(node.decode()): left / MICROSECONDS for node, left in batched(answer, 2)}

    def publish(self, node: str, report: str) -> None:
        """Note what a node says of itself, unless it has no lease."""
        self._ask("publish", [self._keys.nodes, self._keys.reports], [key_names.part(node), report])

    def reports(self) -> dict[str, str]:
        """Return what each node with a lease last said of itself."""
        reports = dict(batched(self._link.command("HGETALL", self._keys.reports), 2))
        said = {key_names.name(node.decode()): report.decode() for node, report in reports.items()}
        return {node: said[node] for node in self.nodes() if node in said}

    def running(self, limit: int) -> list[Running]:
        """Return some of the claims that are under way."""
        answer = self._ask("running", [self._keys.holding], [self._keys.prefix, limit])
        return [
            _running(_Held(node.decode(), holder.decode(), int(receipt), Entry.parse(entry)))
            for node, holder, receipt, entry in batched(answer, 4)
        ]

    def reclaim(self, owner: Owner, death: Death) -> Reclaimed:
        """Take back what a dead owner held."""
        held = self._held(owner)
        reclaimed = self._take_back(held, death)
        if held:
            self._held(owner)  # which forgets the owner's name, now that it holds nothing
        return reclaimed

    def reclaim_expired(self, own: str, cause: str, among: Collection[str] | None) -> Reclaimed:
        """Take back what owners without a lease held, but for the node ``own``."""
        which = ["all"] if among is None else ["among", *map(key_names.part, among)]
        names = [self._keys.nodes, self._keys.holding, self._keys.reports]
        arguments = [self._keys.prefix, key_names.part(own), *which]
        owners = defaultdict(list)
        for node, holder, receipt, entry in batched(self._ask("lost", names, arguments), 4):
            held = _Held(node.decode(), holder.decode(), int(receipt), Entry.parse(entry))
            owners[held.owner].append(held)
        reclaimed = [self._take_back(held, Death(cause)) for held in owners.values()]
        if owners:
            self._ask("lost", names, arguments)  # which forgets the names, now that they hold nothing
        return Reclaimed(
            returned=[task_id for one in reclaimed for task_id in one.returned],
            buried=[task_id for one in reclaimed for task_id in one.buried],
        )

    def _ask(self, script: str, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> Any:
        with Within(self._within):
            return self._link.call(script, keys, arguments)

    def _held(self, owner: Owner) -> list[_Held]:
        """Return what an owner has in flight; forget the name under which it has nothing."""
        node = key_names.part(owner.node)
        answer = self._ask("held", [self._keys.holders(owner.node)], [self._keys.prefix, node, key_names.slot(owner)])
        return [
            _Held(node, holder.decode(), int(receipt), Entry.parse(entry))
            for holder, receipt, entry in batched(answer, 3)
        ]

    def _take_back(self, held: list[_Held], death: Death) -> Reclaimed:
        """Settle in the place of one owner that cannot; what somebody else has taken back meanwhile is left out."""
        reclaimed = Reclaimed([], [])
        alone = death.alone(len(held))
        for holder, claims in _by_holder(held):
            verdicts = [(claim, _verdict(claim, death, alone=alone)) for claim in claims]
            for some in batched(verdicts, AT_ONCE):
                answers = self._ask("settle", *self._call(claims[0], holder, [verdict for _, verdict in some]))
                for (claim, verdict), is_ours in zip(some, answers, strict=True):
                    if is_ours:
                        (reclaimed.buried if verdict.verb == "bury" else reclaimed.returned).append(claim.entry.id)
        return reclaimed

    def _call(self, claim: _Held, holder: str, verdicts: Iterable[Verdict]) -> tuple[Sequence[str], Sequence[Argument]]:
        flight = f"{self._keys.prefix}:flight:{claim.node}:{holder}"
        return settling.call(self._keys, flight, claim.queue, self._failed_cap, verdicts)


def _running(held: _Held) -> Running:
    slot, incarnation, _ = held.holder.split(":")
    owner = Owner(key_names.name(held.node), key_names.name(slot), int(incarnation))
    envelope, _ = held.entry.read(held.queue)
    envelope = wire.stamped(envelope, attempt=held.entry.attempt + 1, crashes=held.entry.crashes)
    # The server counts receipts by its clock, and ahead of it only while it gives more than one in each microsecond.
    return Running(envelope, owner, held.receipt / MICROSECONDS)


def _by_holder(held: Iterable[_Held]) -> Iterator[tuple[str, list[_Held]]]:
    groups = defaultdict(list)
    for claim in sorted(held, key=lambda claim: claim.receipt):
        groups[claim.holder].append(claim)
    yield from groups.items()


def _verdict(claim: _Held, death: Death, *, alone: bool) -> Verdict:
    entry = claim.entry
    if death.spares(entry.id):
        return Verdict("release", claim.receipt, entry.id)
    envelope, problem = entry.read(claim.queue)
    # What cannot be read is never run again.
    crashes, buried = base.verdict(entry.crashes, 0 if problem else envelope.max_rescues, alone=alone)
    entry = entry._replace(attempt=entry.attempt + 1, crashes=crashes)
    if not buried:
        return Verdict("suspect", claim.receipt, entry.id, data=entry.header)
    stamped = wire.stamped(envelope, attempt=entry.attempt, crashes=crashes)
    record = failed.record(stamped, claim.queue, death.failure(crashes))
    return Verdict("bury", claim.receipt, entry.id, mutex_of(entry.lock), record)
