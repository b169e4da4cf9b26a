"""Keeps a node's lease on a thread, so that a blocked event loop does not lose its tasks."""

import logging
import threading
import time
from collections.abc import Callable

from django.db import connections

from django_vtasks import observers
from django_vtasks.brokers.base import Coordinator
from django_vtasks.worker.lapses import Lapses
from django_vtasks.worker.outage import Outage

logger = logging.getLogger(__name__)

STOP_TIMEOUT = 1.0
ATTEMPTS_TO_LEAVE = 2
"""The first one may be what finds that the server has closed the connection."""
LASTS, EVERY, GRACE = 1 / 2, 1 / 6, 1 / 3
"""Parts of the ``ttl``: what a renewal buys, the time between two, and the time that a node has which is seen lapsed.

In all they are one: so long it takes at most until somebody takes over.
"""
SWEEP_EVERY = 1 / 2
"""The part of the ``ttl`` between two looks at all tasks that run, though no node has vanished."""
LONGEST_PAUSE = 1 / 15
"""The part of the ``ttl`` after which a failed renewal is tried again: with the call's deadline, within the grace."""


class LeaseKeeper:
    """Renew the lease of a node, and take over from nodes that vanished within ``ttl`` seconds.

    Called on the thread: ``renewed`` each time that the store has renewed the lease, ``took_back`` when the look for
    others that follows has handed tasks back, ``report`` for what the node says of itself, which is stored when it is
    another than before.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        node: str,
        ttl: float,
        renewed: Callable[[], object],
        took_back: Callable[[], object] = lambda: None,
        *,
        report: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._coordinator = coordinator
        self._node = node
        self._ttl = ttl
        self._stop = threading.Event()
        self._renewed = renewed
        self._took_back = took_back
        self._report = report
        self._published: str | None = None
        self._has_lease = False
        self._sweep_at = 0.0
        self._outage = Outage("renew the lease")
        self._lapses = Lapses(GRACE * ttl)
        self._thread = threading.Thread(target=self._keep, name="vtasks-lease", daemon=True)

    def start(self) -> None:
        """Start renewing; the first renewal makes the lease."""
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing; end the lease and give back what it still covers."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_TIMEOUT)

    def _keep(self) -> None:
        delay = 0.0
        while not self._stop.wait(delay):
            try:
                self._renew()
                delay = EVERY * self._ttl
            except Exception as error:  # noqa: BLE001 - whatever the store raises, the lease must be kept
                connections.close_all()
                self._lapses.forget()
                delay = min(self._outage.failed(error), LONGEST_PAUSE * self._ttl)
        for attempts_left in reversed(range(ATTEMPTS_TO_LEAVE)):
            try:
                self._coordinator.leave(self._node)
                break
            except Exception as error:  # noqa: BLE001 - the lease then runs out by itself
                connections.close_all()
                if not attempts_left:
                    logger.warning("Could not end the lease of node %s: %s", self._node, error)
        connections.close_all()

    def _vanished(self, now: float) -> set[str]:
        lapsed = {node for node, left in self._coordinator.nodes().items() if left <= 0 and node != self._node}
        return self._lapses.vanished(lapsed, now)

    def _renew(self) -> None:
        began = time.monotonic()
        renewed = self._coordinator.renew(self._node, LASTS * self._ttl)
        self._renewed()
        if not self._has_lease:
            self._has_lease = True
        elif not renewed:
            logger.error("The lease of node %s had run out; its tasks were given to others", self._node)
        if not renewed:
            self._published = None
        self._take_back(began)
        self._publish()
        self._outage.over()

    def _publish(self) -> None:
        report = self._report()
        if report is None or report == self._published:
            return
        try:
            self._coordinator.publish(self._node, report)
        except Exception as error:  # noqa: BLE001 - the lease, and what depends on it, holds all the same
            logger.warning("Operators cannot be told how this worker stands: %s", error)
        else:
            self._published = report

    def _take_back(self, now: float) -> None:
        """Look for nodes that vanished; from time to time also for tasks that nobody's node holds any more."""
        vanished = self._vanished(now)
        if not vanished and now < self._sweep_at:
            return
        reclaimed = self._coordinator.reclaim_expired(self._node, "The worker's lease ran out", vanished)
        # Tasks that somebody has locked have been passed over: come back for them soon.
        self._sweep_at = now + (0.0 if vanished else SWEEP_EVERY * self._ttl)
        observers.rescued(reclaimed, observers.WORKER_VANISHED)
        if reclaimed.returned or reclaimed.buried:
            logger.warning(
                "Took back %d tasks of vanished workers; %d of them failed for good",
                len(reclaimed.returned) + len(reclaimed.buried), len(reclaimed.buried),
            )  # fmt: skip
            self._took_back()
