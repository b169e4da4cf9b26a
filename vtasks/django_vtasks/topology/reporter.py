"""The one worker of a fleet that tells what stands in the store, so that sums over all workers stay right."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from django.db import connections

from django_vtasks.brokers.base import Depth
from django_vtasks.metrics.catalogue import DELAYED, DEPTH, EVICTIONS, FAILED, OLDEST, REPORTER
from django_vtasks.metrics.tally import Key, Value
from django_vtasks.worker.outage import Outage

logger = logging.getLogger(__name__)

ROLE = "metrics"
EVERY = 1 / 3
"""The part of a term between two looks at the store, or for those who do not lead between two tries to."""
STOP_TIMEOUT = 1.0


class Store(Protocol):
    """What a reporter asks of a broker that is a coordinator too."""

    def lead(self, role: str, node: str, ttl: float) -> int | None:
        """See Coordinator."""
        ...

    def resign(self, role: str, node: str) -> None:
        """See Coordinator."""
        ...

    def glance(self, queues: Collection[str]) -> dict[str, Depth]:
        """See Broker."""
        ...

    def oldest(self, queues: Collection[str]) -> dict[str, float]:
        """See Broker."""
        ...

    def failed_count(self) -> int:
        """See Broker."""
        ...

    def evictions(self) -> int:
        """See Broker."""
        ...


class Reporter:
    """Stands for the lead of role ``metrics`` on a thread of its own while ``is_wanted()``, for ``ttl`` seconds a term.

    What it has seen is told until the term is over: then another may tell.
    """

    def __init__(
        self,
        store: Store,
        node: str,
        ttl: float,
        queues: Collection[str],
        is_wanted: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._node = node
        self._ttl = ttl
        self._queues = queues
        self._is_wanted = is_wanted
        self._clock = clock
        self._seen: tuple[float, Mapping[Key, Value]] = float("-inf"), {}
        self._leads = False
        self._outage = Outage("read what the metrics tell of the store")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="vtasks-metrics", daemon=True)

    def start(self) -> None:
        """Begin to stand."""
        self._thread.start()

    def stop(self) -> None:
        """Resign soon, so that another may lead; return at once."""
        self._stop.set()

    def join(self) -> None:
        """Wait for the end, for a moment: a store that does not answer must not hold up the worker's."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(STOP_TIMEOUT)

    def values(self) -> Mapping[Key, Value]:
        """Return what stands in the store, if it is this worker that tells; may be called on any thread."""
        until, seen = self._seen
        tells = self._clock() < until
        return {(REPORTER.name, ()): int(tells), **(seen if tells else {})}

    def turn(self) -> None:
        """Take the lead or keep it, and look at the store."""
        if not self._is_wanted():
            self._resign()
            return
        asked_at = self._clock()
        self._leads = self._store.lead(ROLE, self._node, self._ttl) is not None
        self._seen = (asked_at + self._ttl, self._look()) if self._leads else (float("-inf"), {})

    def _look(self) -> dict[Key, Value]:
        oldest = self._store.oldest(self._queues)
        values: dict[Key, Value] = {}
        for queue, depth in self._store.glance(self._queues).items():
            values[DEPTH.name, (queue,)] = depth.waiting
            values[DELAYED.name, (queue,)] = depth.delayed
            values[OLDEST.name, (queue,)] = oldest.get(queue, 0.0)
        values[FAILED.name, ()] = self._store.failed_count()
        values[EVICTIONS.name, ()] = self._store.evictions()
        return values

    def _resign(self) -> None:
        self._seen = float("-inf"), {}
        if self._leads:
            self._leads = False
            self._store.resign(ROLE, self._node)

    def _keep(self) -> None:
        delay = 0.0
        while not self._stop.wait(delay):
            try:
                self.turn()
                self._outage.over()
                delay = EVERY * self._ttl
            except Exception as error:  # noqa: BLE001 - whatever the store raises, it may come back
                connections.close_all()
                delay = self._outage.failed(error)
        try:
            self._resign()
        except Exception as error:  # noqa: BLE001 - the term then runs out by itself
            logger.warning("Could not resign the lead of the metrics: %s", error)
        connections.close_all()
