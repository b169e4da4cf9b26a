"""Who leads by the database's clock, and which slots of a schedule are done."""

from django.db.models import F, Q

from django_vtasks.brokers.database.tables import Tables
from django_vtasks.db.clock import MICROSECONDS, Now, microseconds
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
        expires = Now() + microseconds(ttl)
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

    def take(self, entry: str, slot: float) -> bool:
        """Record a slot inside the caller's transaction; False when it, or a later one, has been recorded."""
        rows = SlotRow.objects.using(self._tables.using)
        at = round(slot * MICROSECONDS)
        # The row first, whoever makes it: its lock decides who is the first to record the slot.
        rows.bulk_create([SlotRow(entry=entry, slot=at - 1)], ignore_conflicts=True)
        return bool(rows.filter(entry=entry, slot__lt=at).update(slot=at))

    def slots(self) -> dict[str, float]:
        """Return the last recorded slot of each entry."""
        rows = SlotRow.objects.using(self._tables.using).values_list("entry", "slot")
        return {entry: slot / MICROSECONDS for entry, slot in rows}
