"""Which queues are paused; each claim looks at the same table."""

from django.db import connections

from django_vtasks.brokers.database.tables import Tables
from django_vtasks.db.models import PauseRow


class Pausing:
    """What operators do with it."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def pause(self, queue: str) -> None:
        """Pause a queue, if it is not."""
        PauseRow.objects.using(self._tables.using).bulk_create([PauseRow(queue=queue)], ignore_conflicts=True)

    def resume(self, queue: str) -> None:
        """Let a queue go on; who waits for it is woken once the transaction commits."""
        with self._tables.transaction():
            PauseRow.objects.using(self._tables.using).filter(queue=queue).delete()
            self._tables.announce({queue})

    def paused(self) -> set[str]:
        """Return the queues that are paused; without the ORM, as workers ask again and again."""
        with connections[self._tables.using].cursor() as cursor:
            cursor.execute("SELECT queue FROM vtasks_pause")
            return {queue for (queue,) in cursor.fetchall()}
