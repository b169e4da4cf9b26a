"""Keeps a node's lease on a thread, so that a blocked event loop does not lose its tasks."""

import logging
import threading
from collections.abc import Callable

from django.db import connections

from django_vtasks.brokers.base import Coordinator
from django_vtasks.worker.outage import Outage

logger = logging.getLogger(__name__)

STOP_TIMEOUT = 2.0


class LeaseKeeper:
    """Renew the lease of a node at a third of its ``ttl`` seconds, and take over from nodes that vanished.

    ``taken`` is called on the thread when the node has its lease for the first time.
    """

    def __init__(self, coordinator: Coordinator, node: str, ttl: float, taken: Callable[[], object]) -> None:
        self._coordinator = coordinator
        self._node = node
        self._ttl = ttl
        self._stop = threading.Event()
        self._taken = taken
        self._has_lease = False
        self._outage = Outage("renew the lease")
        self._thread = threading.Thread(target=self._keep, name="vtasks-lease", daemon=True)

    def start(self) -> None:
        """Start renewing; the first renewal makes the lease."""
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing; end the lease and give back what it still covers."""
        self._stop.set()
        self._thread.join(STOP_TIMEOUT)

    def _keep(self) -> None:
        delay = 0.0
        while not self._stop.wait(delay):
            try:
                self._renew()
                delay = self._ttl / 3
            except Exception as error:  # noqa: BLE001 - whatever the store raises, the lease must be kept
                connections.close_all()
                delay = min(self._outage.failed(error), self._ttl / 3)
        try:
            self._coordinator.leave(self._node)
        except Exception as error:  # noqa: BLE001 - the lease then runs out by itself
            logger.warning("Could not end the lease of node %s: %s", self._node, error)
        connections.close_all()

    def _renew(self) -> None:
        renewed = self._coordinator.renew(self._node, self._ttl)
        if not self._has_lease:
            self._has_lease = True
            self._taken()
        elif not renewed:
            logger.error("The lease of node %s had run out; its tasks were given to others", self._node)
        reclaimed = self._coordinator.reclaim_expired(self._node, "The worker's lease ran out")
        if reclaimed.returned or reclaimed.buried:
            logger.warning(
                "Took back %d tasks of vanished workers; %d of them failed for good",
                len(reclaimed.returned) + len(reclaimed.buried), len(reclaimed.buried),
            )  # fmt: skip
        self._outage.over()
