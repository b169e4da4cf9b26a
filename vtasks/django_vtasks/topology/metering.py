"""The metrics of one worker: what actors count, what the supervisor knows, and what stands in the store."""

import logging
import time
from http import HTTPStatus
from typing import Self

from django_vtasks import conf, observers
from django_vtasks.backends.base import BrokerBackend
from django_vtasks.metrics import exposition, tally
from django_vtasks.metrics.exposition import Page
from django_vtasks.metrics.snapshot import Snapshot
from django_vtasks.metrics.tally import Key, Value
from django_vtasks.metrics.totals import Totals, summed
from django_vtasks.topology.board import Board
from django_vtasks.topology.http import Response
from django_vtasks.topology.plan import Plan
from django_vtasks.topology.reporter import Reporter
from vtasks_supervisor import Event, Supervisor
from vtasks_supervisor.events import ChildExited, ChildReady, ChildSaid, TreeStopping

logger = logging.getLogger(__name__)

INTEREST = 120.0
"""Seconds after a scrape of a default registry for which another is expected."""


class Metering:
    """Counts inside the ``with`` block.

    With ``own_processes`` the actors send what they count, and a page shows the sums. Without, all count in this
    process, and its default registry shows them.
    """

    def __init__(self, plan: Plan, supervisor: Supervisor, backend: BrokerBackend, *, own_processes: bool) -> None:
        self._is_served = False
        self._own_processes = own_processes
        self._totals = Totals()
        self._board = Board(plan, supervisor)
        self._pids: dict[tuple[str, int], int] = {}
        for cells in (tally.rescued, tally.given_up):
            for cause in observers.CAUSES:
                _ = cells[(cause,)]  # a counter that begins with 1 has not grown, to Prometheus
        queues = {*backend.queues, *conf.current().queues, *plan.queue_names}
        self._reporter = Reporter(
            backend.broker,  # type: ignore[arg-type] # a coordinator, too
            plan.node,
            plan.lease,
            sorted(queues),
            is_wanted=(lambda: self._is_served) if own_processes else _is_scraped,
        )
        page = Page((tally.values, self._totals.counts, self._told), self._totals.project)
        self._render = page.render if own_processes else exposition.default_page

    def shown(self, *, is_served: bool) -> Self:
        """Note whether the page can be had: who shows nothing must not be the one that looks at the store."""
        self._is_served = is_served
        return self

    def __enter__(self) -> Self:
        """Begin to look at the store."""
        if not self._own_processes:
            exposition.process.sources.append(self._told)
        self._reporter.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End, and let another worker tell of the store."""
        self._reporter.join()
        if not self._own_processes:
            exposition.process.sources.remove(self._told)

    def note(self, event: Event) -> None:
        """Take in what a supervisor's hook is told."""
        self._board.note(event)
        match event:
            case ChildSaid(message=Snapshot() as snapshot):
                self._totals.note(event.name, event.incarnation, snapshot)
            case ChildReady(pid=int() as number):
                self._pids[event.name, event.incarnation] = number
            case ChildExited():
                self._totals.ended(event.name, event.incarnation)
                pid = self._pids.pop((event.name, event.incarnation), None)
                if pid is not None:
                    exposition.forget_process(pid)
            case TreeStopping():
                self._reporter.stop()

    def page(self, accept: str) -> Response:
        """Return the page for a scraper that accepts this."""
        body, content_type = self._render(accept)
        return Response(HTTPStatus.OK, body, content_type)

    def _told(self) -> dict[Key, Value]:
        return summed((self._board.values(), self._reporter.values()))


def metering(plan: Plan, supervisor: Supervisor, backend: BrokerBackend, *, own_processes: bool) -> Metering | None:
    """Return the metrics of a worker, if anybody may ask for them; say so when they are asked for in vain."""
    if not exposition.is_available():
        if plan.metrics_port is not None:
            logger.error("No metrics: %s", exposition.MISSING)
        return None
    if own_processes and plan.metrics_port is None:
        return None
    return Metering(plan, supervisor, backend, own_processes=own_processes)


def _is_scraped() -> bool:
    return time.monotonic() - exposition.process.asked_at < INTEREST
