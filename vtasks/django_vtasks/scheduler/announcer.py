"""What became of slots → the signals of any other enqueue."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from django.db import close_old_connections

from django_vtasks import observers, results
from django_vtasks.brokers.base import Due, Tick
from django_vtasks.results import Published
from django_vtasks.scheduler.entries import Entry

logger = logging.getLogger(__name__)


class Announcer:
    """Tell the project's receivers of enqueued and refused slots; ``sender`` is the class of backend ``alias``."""

    def __init__(
        self, entries: Iterable[Entry], alias: str, sender: type, clock: Callable[[], float] = time.time
    ) -> None:
        self._tasks = {entry.name: entry.task for entry in entries}
        self._alias = alias
        self._sender = sender
        self._clock = clock

    def tell(self, dues: Sequence[Due], ticks: Sequence[Tick]) -> None:
        """Tell what became of slots, but for those that somebody else tells of; log what a receiver raises."""
        news = (Tick.ENQUEUED, Tick.REFUSED)
        ours = [(due, tick) for due, tick in zip(dues, ticks, strict=True) if tick in news]
        accepted = [tick is Tick.ENQUEUED for _, tick in ours]
        self._count(ours, accepted)
        if not ours or not observers.are_told(accepted):
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

    def _count(self, ours: Sequence[tuple[Due, Tick]], accepted: Sequence[bool]) -> None:
        observers.submitted([due.envelope for due, _ in ours], accepted)
        now = self._clock()
        for (due, _), is_accepted in zip(ours, accepted, strict=True):
            if is_accepted:
                observers.ticked(now - due.slot)


def _tidy_connections() -> None:
    try:
        close_old_connections()
    except Exception:
        logger.exception("Cannot close a connection that a receiver has used")
