"""Who leads by the server's clock, and which slots of a schedule are done."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import batched, chain
from typing import Any

from django_vtasks import wire
from django_vtasks.brokers.base import Due, Standing, Tick
from django_vtasks.brokers.seldom import Seldom
from django_vtasks.brokers.valkey.keys import MICROSECONDS, Keys
from django_vtasks.brokers.valkey.link import Link
from django_vtasks.brokers.valkey.pushing import BYTES_AT_ONCE, arguments_of_push
from django_vtasks.brokers.valkey.request import Argument
from django_vtasks.errors import NotReplicated

logger = logging.getLogger(__name__)

AT_ONCE = 500
"""Dues of one call, during which the server does nothing else."""
TICKS = {1: Tick.ENQUEUED, 0: Tick.REFUSED, b"taken": Tick.TAKEN}
"""What the script says of a due; anything else is an error that concerns its queue alone."""


class Schedule:
    """What the scheduler keeps on the server."""

    def __init__(self, keys: Keys, link: Link) -> None:
        self._keys = keys
        self._link = link
        self._trouble = Seldom(logger)
        self._replication = Seldom(logger)

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

    def register(self, entries: Mapping[str, str]) -> dict[str, Standing]:
        """Note the entries, each with its timetable, and forget all others."""
        names = [self._keys.schedule, self._keys.slots]
        answer: list[bytes] = self._link.call("register", names, list(chain(*entries.items())))
        return {entry.decode(): _standing(since, last or None) for entry, since, last in batched(answer, 3)}

    def tick(self, dues: Sequence[Due], *, replicas: int) -> list[Tick]:
        """Record slots and enqueue their tasks, some hundred in each call."""
        pairs = list(zip(dues, wire.encode_all([due.envelope for due in dues]), strict=True))
        ticks: list[Tick] = []
        for some in _chunks(pairs):
            try:
                verdicts = self._tick_some(some, replicas)
            except Exception as error:
                if not ticks:
                    raise
                self._trouble.warning("Slots are held up: %s", error)
                break
            ticks += [TICKS.get(verdict, Tick.HELD_UP) for verdict in verdicts]
            if refusals := [verdict for verdict in verdicts if verdict not in TICKS]:
                self._trouble.warning(
                    "Slots are held up: Valkey at %s refuses: %s", self._link.address, refusals[0].decode()
                )
        return ticks + [Tick.HELD_UP] * (len(dues) - len(ticks))

    def _tick_some(self, pairs: Sequence[tuple[Due, bytes]], replicas: int) -> list[Any]:
        """Return what the script says of each."""
        keys, arguments = arguments_of_push(
            [due.envelope for due, _ in pairs], [payload for _, payload in pairs], self._keys
        )
        slots: list[Argument] = []
        for due, _ in pairs:
            slots += due.entry, round(due.slot * MICROSECONDS)
        verdicts: list[Any]
        try:
            verdicts = self._link.call(
                "tick",
                [self._keys.schedule, self._keys.slots, *keys],
                [len(pairs), *slots, *arguments],
                replicas=replicas,
            )
        except NotReplicated as error:
            # What is recorded is not to be done again, whoever has it.
            if not isinstance(error.answer, list):
                raise
            self._replication.warning("%s", error)
            verdicts = error.answer
        return verdicts

    def standings(self) -> dict[str, Standing]:
        """Return how each registered entry stands."""
        schedule: dict[bytes, bytes] = dict(batched(self._link.command("HGETALL", self._keys.schedule), 2))
        slots: dict[bytes, bytes] = dict(batched(self._link.command("HGETALL", self._keys.slots), 2))
        return {
            entry.decode(): _standing(stored.partition(b" ")[0], slots.get(entry)) for entry, stored in schedule.items()
        }


def _standing(since: bytes, last: bytes | None) -> Standing:
    return Standing(int(since) / MICROSECONDS, None if last is None else int(last) / MICROSECONDS)


def _chunks(pairs: Sequence[tuple[Due, bytes]]) -> Iterator[Sequence[tuple[Due, bytes]]]:
    for some in batched(pairs, AT_ONCE):
        if sum([len(payload) for _, payload in some]) <= BYTES_AT_ONCE:
            yield some
        else:
            yield from ((pair,) for pair in some)
