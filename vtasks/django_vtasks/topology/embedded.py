"""A plan as a guest in somebody else's loop."""

import asyncio
import contextvars
import logging

from django_vtasks.topology.plan import Plan
from django_vtasks.topology.tree import Tree, no_handlers
from vtasks_supervisor import Place

logger = logging.getLogger(__name__)

MARGIN = 5.0
"""Seconds beyond the shutdown time-out that stop() waits."""


class Embedded:
    """Run a worker whose actors are tasks of the running loop, from now until stop()."""

    def __init__(self, plan: Plan) -> None:
        self._timeout = plan.shutdown_timeout
        self._tree = Tree(plan, place=Place.TASK)
        # An empty context: that of the request which starts the worker is not the worker's.
        self._running = asyncio.get_running_loop().create_task(
            self._tree.run(no_handlers), name="vtasks: supervisor", context=contextvars.Context()
        )
        self._running.add_done_callback(_report)

    async def stop(self) -> None:
        """Drain, and return when the worker has ended; being cancelled means at once."""
        self._tree.stop()
        try:
            await asyncio.wait({self._running}, timeout=self._timeout + MARGIN)
        except asyncio.CancelledError:
            self._tree.stop(at_once=True)
            raise


def _report(running: "asyncio.Task[None]") -> None:
    if not running.cancelled() and (error := running.exception()) is not None:
        logger.critical("The embedded worker gives up; the pages go on without it", exc_info=error)
