"""What the outside sees of a worker: pages over HTTP, a file, and systemd."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, Self

from django_vtasks.topology.health import Health
from django_vtasks.topology.healthfile import HealthFile
from django_vtasks.topology.http import Endpoint, Response
from django_vtasks.topology.notify import Notifier
from django_vtasks.topology.plan import Plan

logger = logging.getLogger(__name__)

PULSE = 5.0
"""Seconds between two signs of health in the file, at most."""
ANSWER_WITHIN = 2.0
"""Seconds for which a page waits for the loop; one that takes longer is no longer alive."""
DRAIN_MARGIN = 5.0


class Outside:
    """Open inside the ``with`` block; ``notifier`` speaks for the whole process."""

    def __init__(self, plan: Plan, health: Health, notifier: Notifier) -> None:
        self._health = health
        self._loop = asyncio.get_running_loop()
        self._file = None if plan.health_file is None else HealthFile(plan.health_file)
        self._notifier = notifier
        pages = {"/live": self._live, "/ready": self._is_ready, "/health": self._is_healthy}
        routes = {path: self._page(page) for path, page in pages.items()}
        self._endpoint = None if plan.health_port is None else Endpoint(plan.health_port, routes)

    @property
    def is_watched(self) -> bool:
        """Tell whether anybody asks for the depth of queues."""
        return self._endpoint is not None or self._file is not None

    @property
    def port(self) -> int | None:
        """Return the port that is listened on."""
        return None if self._endpoint is None else self._endpoint.port

    def __enter__(self) -> Self:
        """Listen; a port in use is no reason not to work."""
        if self._endpoint is not None:
            try:
                self._endpoint.start()
            except OSError as error:
                logger.error("No health pages: %s", error)  # noqa: TRY400 - the address is all there is to know
                self._endpoint = None
        return self

    def __exit__(self, *error: object) -> None:
        """Hang up."""
        if self._endpoint is not None:
            self._endpoint.stop()
        if self._file is not None:
            self._file.remove()

    async def keep(self) -> None:
        """Give signs of health until cancelled."""
        interval = min(PULSE, self._notifier.watchdog_interval or PULSE)
        if self._file is None and self._notifier.watchdog_interval is None:
            return
        while True:
            # To restart a worker helps against its own silence, not against that of a database.
            if self._health.has_actor:
                self._notifier.watchdog()
            if self._file is not None and not self._health.problems():
                await asyncio.to_thread(self._file.touch)
            await asyncio.sleep(interval)

    def ready(self) -> None:
        """Tell systemd that every actor has been ready."""
        self._notifier.ready()

    def stopping(self, timeout: float) -> None:
        """Tell systemd that the worker drains."""
        self._notifier.stopping()
        self._notifier.extend(timeout + DRAIN_MARGIN)

    # Pages ---------------------------------------------------------------------------------------------------

    def _page(self, make: Callable[[], Response]) -> Callable[[], Response]:
        """Return a page that is made on the loop, asked for by a thread."""

        async def on_loop() -> Response:
            return make()

        def page() -> Response:
            asking = asyncio.run_coroutine_threadsafe(on_loop(), self._loop)
            try:
                return asking.result(ANSWER_WITHIN)
            except TimeoutError:
                asking.cancel()
                return _json({"status": "the supervisor's loop does not answer"}, healthy=False)

        return page

    def _live(self) -> Response:
        return _json({"status": "alive"}, healthy=True)

    def _is_ready(self) -> Response:
        return _json({"ready": self._health.is_ready}, healthy=self._health.is_ready)

    def _is_healthy(self) -> Response:
        return _json(self._health.report(), healthy=not self._health.problems())


def _json(page: dict[str, Any], *, healthy: bool) -> Response:
    return Response(200 if healthy else 503, json.dumps(page, indent=1) + "\n", "application/json")
