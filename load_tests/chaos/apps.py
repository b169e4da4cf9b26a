"""The Django app of a run under faults: it notes which ends of tasks the store has taken in."""

import os
from collections.abc import Sequence
from pathlib import Path

from django_vtasks import observers
from django_vtasks.brokers.base import Ack, Bury, Settlement
from load_tests.chaos.ledger import ADDED, VARIABLE, Pen
from tests.workapp.apps import WorkAppConfig


class ChaosConfig(WorkAppConfig):
    """Listen where the worker counts what a store has accepted, which no signal tells."""

    name = "load_tests.chaos"
    label = "chaos"
    default = True  # the other that is seen here is imported

    def ready(self) -> None:
        """Write each accepted end into the ledger, each that came too late, and what only a newer version sees."""
        super().ready()  # type: ignore[no-untyped-call] # tests have no annotations
        if (directory := os.environ.get(VARIABLE)) is None:
            return
        pen, usual = Pen(Path(directory)), observers.settled

        def settled(settlements: Sequence[Settlement], accepted: Sequence[bool]) -> None:
            usual(settlements, accepted)
            for settlement, ours in zip(settlements, accepted, strict=True):
                if isinstance(settlement, Ack | Bury):
                    envelope, what = settlement.claim.envelope, type(settlement).__name__.lower()
                    pen.write("settled" if ours else "fenced", "", envelope.id, what)
                    if hasattr(envelope, ADDED):
                        pen.write("seen", "", envelope.id, str(getattr(envelope, ADDED)))

        observers.settled = settled
