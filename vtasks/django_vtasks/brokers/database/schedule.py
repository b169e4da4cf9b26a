"""Who leads by the database's clock, and how each entry of the schedule stands."""

from collections.abc import Mapping

from django.db import connections
from django.db.models import F, Q

from django_vtasks.brokers.base import Standing
from django_vtasks.brokers.database.tables import Tables
from django_vtasks.db.clock import MICROSECONDS, Now, from_now
from django_vtasks.db.models import LeaderRow, SlotRow

NOBODY = ""


class Schedule:
    """What the scheduler keeps in the database."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def lead(self, role: str, node: str, ttl: float) -> int | None:
        """Take or keep a role."""
        rows = LeaderRow.objects.using(self._tables.using).filter(role=role)
        free = rows.filter(Q(node=node) | Q(expires__lte=Now()))
        expires = from_now(ttl)
        with self._tables.transaction():
            # Two statements: MySQL would let the number see the new node.
            changed = free.exclude(node=node).update(number=F("number") + 1, node=node, expires=expires)
            if changed or rows.filter(node=node).update(expires=expires):
                return rows.values_list("number", flat=True).get()
            if rows.exists():
                return None
        made = LeaderRow(role=role, node=node, number=1, expires=expires)
        LeaderRow.objects.using(self._tables.using).bulk_create([made], ignore_conflicts=True)
        return rows.filter(node=node).values_list("number", flat=True).first()

    def resign(self, role: str, node: str) -> None:
        """Give a role up, if it is the node's."""
        LeaderRow.objects.using(self._tables.using).filter(role=role, node=node).update(node=NOBODY, expires=0)

    def leader(self, role: str) -> str | None:
        """Return who leads."""
        rows = LeaderRow.objects.using(self._tables.using).filter(role=role, expires__gt=Now())
        return rows.values_list("node", flat=True).first()

    def register(self, entries: Mapping[str, str]) -> dict[str, Standing]:
        """Note the entries, each with its timetable, and forget all others.

        Whoever comes with the schedule that is there, as all but the first do, waits for nobody's lock.
        """
        standings = self._standings_if_these(entries)
        if standings is not None:
            return standings
        rows = SlotRow.objects.using(self._tables.using)
        with self._tables.transaction():
            known = dict(rows.select_for_update().order_by("entry").values_list("entry", "timetable"))
            changed = sorted(entry for entry, timetable in entries.items() if known.get(entry) != timetable)
            rows.bulk_create(
                [SlotRow(entry=entry, timetable=entries[entry], since=Now()) for entry in changed],
                update_conflicts=True,
                update_fields=["timetable", "since"],
                unique_fields=["entry"] if self._names_conflicts else None,
            )
            forgotten = rows.filter(entry__in=known.keys() - entries.keys())
            forgotten.filter(Q(slot=None) | Q(slot__lte=Now())).delete()
            forgotten.update(timetable=None)  # what is ahead of the clock has been, should its entry come back
            standings = self.standings()
            return {entry: standings[entry] for entry in entries}

    def standings(self) -> dict[str, Standing]:
        """Return how each registered entry stands."""
        rows = SlotRow.objects.using(self._tables.using).exclude(timetable=None)
        return {entry: _standing(since, slot) for entry, since, slot in rows.values_list("entry", "since", "slot")}

    def _standings_if_these(self, entries: Mapping[str, str]) -> dict[str, Standing] | None:
        """Return how the entries stand, if these, as they are, and no others are known."""
        rows = list(SlotRow.objects.using(self._tables.using).values_list("entry", "timetable", "since", "slot"))
        if {entry: timetable for entry, timetable, *_ in rows} != entries:
            return None
        return {entry: _standing(since, slot) for entry, _, since, slot in rows}

    @property
    def _names_conflicts(self) -> bool:
        return bool(connections[self._tables.using].features.supports_update_conflicts_with_target)


def _standing(since: int, slot: int | None) -> Standing:
    return Standing(since / MICROSECONDS, None if slot is None else slot / MICROSECONDS)
