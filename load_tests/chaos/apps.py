"""The Django app of a run under faults: it notes which ends of tasks the store has taken in."""

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from django_vtasks import observers
from django_vtasks.brokers.base import Ack, Bury, Due, Settlement
from django_vtasks.scheduler.entries import Entry
from load_tests.chaos.ledger import ADDED, VARIABLE, Pen
from tests.workapp.apps import WorkAppConfig

CURSE = "CHAOS_CURSE"
"""The file that lets each process die which an actor is forked as, for as long as there is one."""


class ChaosConfig(WorkAppConfig):
    """Listen where the worker counts what a store has accepted, which no signal tells."""

    name = "load_tests.chaos"
    label = "chaos"
    default = True  # the other that is seen here is imported

    def ready(self) -> None:
        """Write into the ledger: ends that the store accepted or refused, slots of tasks, what a newer version sees."""
        super().ready()  # type: ignore[no-untyped-call] # tests have no annotations
        if curse := os.environ.get(CURSE):
            os.register_at_fork(after_in_child=partial(_die_while, Path(curse)))
        if (directory := os.environ.get(VARIABLE)) is None:
            return
        pen, usual, usual_due = Pen(Path(directory)), observers.settled, Entry.due

        def settled(settlements: Sequence[Settlement], accepted: Sequence[bool]) -> None:
            usual(settlements, accepted)
            for settlement, ours in zip(settlements, accepted, strict=True):
                if isinstance(settlement, Ack | Bury):
                    envelope, what = settlement.claim.envelope, type(settlement).__name__.lower()
                    pen.write("settled" if ours else "fenced", "", envelope.id, what)
                    if hasattr(envelope, ADDED):
                        pen.write("seen", "", envelope.id, str(getattr(envelope, ADDED)))

        def due(entry: Entry, slot: float, now: float) -> Due:
            found = usual_due(entry, slot, now)
            pen.write("slot", entry.name, found.envelope.id, repr(slot))
            return found

        observers.settled = settled
        Entry.due = due  # type: ignore[method-assign, assignment] # a task knows the entry it comes from, and not the slot


def _die_while(file: Path) -> None:
    if file.exists():
        os.kill(os.getpid(), signal.SIGKILL)
