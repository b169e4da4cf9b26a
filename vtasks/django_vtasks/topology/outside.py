"""What the outside sees of a worker: pages over HTTP, a file, and systemd."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, Self

from django_vtasks.topology.health import Health
from django_vtasks.topology.healthfile import HealthFile
from django_vtasks.topology.http import Endpoint, Response, Route
from django_vtasks.topology.notify import Notifier
from django_vtasks.topology.plan import Plan

logger = logging.getLogger(__name__)

PULSE = 5.0
"""Seconds between two signs of health in the file, at most."""
ANSWER_WITHIN = 2.0
"""Seconds for which a page waits for the loop; one that takes longer is no longer alive."""
DRAIN_MARGIN = 5.0
METRICS = "/metrics"


class _Service:
    """Some pages on a port of their own."""

    def __init__(self, name: str, port: int, routes: dict[str, Route]) -> None:
        self.name = name
        self.port = port
        self.routes = routes
        self.endpoint = Endpoint(port, routes)


class Outside:
    """Open inside the ``with`` block; ``notifier`` speaks for the whole process, ``metrics`` is their page."""

    def __init__(self, plan: Plan, health: Health, notifier: Notifier, metrics: Route | None = None) -> None:
        self._health = health
        self._loop = asyncio.get_running_loop()
        self._file = None if plan.health_file is None else HealthFile(plan.health_file)
        self._notifier = notifier
        self._services: list[_Service] = []
        if plan.health_port is not None:
            pages = {"/live": self._live, "/ready": self._is_ready, "/health": self._is_healthy}
            routes = {path: self._page(page) for path, page in pages.items()}
            self._services.append(_Service("health pages", plan.health_port, routes))
        if plan.metrics_port is not None and metrics is not None:
            self._add(_Service("metrics", plan.metrics_port, {METRICS: metrics}))

    def _add(self, other: "_Service") -> None:
        """Add pages, on the port of others when it is the same."""
        for service in self._services:
            if service.port == other.port:
                service.name += f" and {other.name}"
                service.routes |= other.routes
                return
        self._services.append(other)

    @property
    def is_watched(self) -> bool:
        """Tell whether anybody asks for the depth of queues."""
        return self.port is not None or self._file is not None

    @property
    def port(self) -> int | None:
        """Return the port on which the health pages are."""
        return self._port_of("/live")

    @property
    def metrics_port(self) -> int | None:
        """Return the port on which the metrics are."""
        return self._port_of(METRICS)

    def _port_of(self, path: str) -> int | None:
        return next((service.endpoint.port for service in self._services if path in service.routes), None)

    def __enter__(self) -> Self:
        """Listen; a port in use is no reason not to work."""
        for service in list(self._services):
            try:
                service.endpoint.start()
            except OSError as error:
                logger.error("No %s: %s", service.name, error)  # noqa: TRY400 - the address is all there is to know
                self._services.remove(service)
        return self

    def __exit__(self, *error: object) -> None:
        """Hang up."""
        for service in self._services:
            service.endpoint.stop()
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

    def _page(self, make: Callable[[], Response]) -> Route:
        """Return a page that is made on the loop, asked for by a thread."""

        async def on_loop() -> Response:
            return make()

        def page(accept: str) -> Response:
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
