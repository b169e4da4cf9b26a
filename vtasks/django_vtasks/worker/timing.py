"""How long claims take whose tasks were waiting: a claim that waits for work says nothing about the store."""

import time
from collections.abc import Sequence

from django_vtasks.brokers.base import Claim
from django_vtasks.metrics import tally


class ClaimTimer:
    """Times the claims of one queue, as long as each finds as many tasks as there is room for."""

    def __init__(self, queue: str) -> None:
        self._labels = (queue,)
        self._more_waits = False
        self._began = self._began_at = 0.0

    def begin(self) -> None:
        """Note that a claim is sent."""
        self._began, self._began_at = time.perf_counter(), time.time()

    def end(self, claims: Sequence[Claim], room: int) -> None:
        """Note what came back; it counts when its tasks were due before it was sent, after a claim that left some."""
        if self._more_waits and claims and claims[0].envelope.due_since < self._began_at:
            tally.claims[self._labels].observe(time.perf_counter() - self._began)
        self._more_waits = len(claims) >= room

    def failed(self) -> None:
        """Note that there was no answer."""
        self._more_waits = False
