"""What became of slots → the signals of any other enqueue."""

import logging
from collections.abc import Iterable, Sequence

from django.db import close_old_connections

from django_vtasks import observers, results
from django_vtasks.brokers.base import Due, Tick
from django_vtasks.results import Published
from django_vtasks.scheduler.entries import Entry

logger = logging.getLogger(__name__)


class Announcer:
    """Tell the project's receivers of enqueued and refused slots; ``sender`` is the class of backend ``alias``."""

    def __init__(self, entries: Iterable[Entry], alias: str, sender: type) -> None:
        self._tasks = {entry.name: entry.task for entry in entries}
        self._alias = alias
        self._sender = sender

    def tell(self, dues: Sequence[Due], ticks: Sequence[Tick]) -> None:
        """Tell what became of slots, but for those that somebody else tells of; log what a receiver raises."""
        news = (Tick.ENQUEUED, Tick.REFUSED)
        ours = [(due, tick) for due, tick in zip(dues, ticks, strict=True) if tick in news]
        if not ours or not observers.are_told([tick is Tick.ENQUEUED for _, tick in ours]):
            return
        # Receivers may use the database on this thread, which no request ever ends.
        _tidy_connections()
        for due, tick in ours:
            task = self._tasks[due.entry]
            result = results.enqueued(task, due.envelope, self._alias) if tick is Tick.ENQUEUED else None
            try:
                observers.published(self._sender, [Published(task, due.envelope, result)])
            except Exception:
                logger.exception("A receiver failed that was told of the scheduled task %s", due.entry)
        _tidy_connections()


def _tidy_connections() -> None:
    try:
        close_old_connections()
    except Exception:
        logger.exception("Cannot close a connection that a receiver has used")
