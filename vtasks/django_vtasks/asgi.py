"""The worker inside an ASGI server, for small sites: one process for pages and tasks."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django_vtasks import conf, topology
from django_vtasks.topology.embedded import Embedded

logger = logging.getLogger(__name__)

type Scope = MutableMapping[str, Any]
type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type Application = Callable[[Any, Any, Any], Awaitable[None]]
"""Takes scope, receive and send, for which every framework has types of its own."""


def get_worker_application(django_app: Application, *, backend: str | None = None) -> Application:
    """Return an application that serves ``django_app`` and runs the worker of ``backend`` (VTASKS_BACKEND) beside it.

    The worker starts and stops with the server's lifespan, of which ``django_app`` hears nothing. It shares the loop
    with the pages: a task that blocks blocks them too. A server of several processes has a worker in each.
    """
    return _WorkerApplication(django_app, backend)


class _WorkerApplication:
    def __init__(self, django_app: Application, backend: str | None) -> None:
        self._django_app = django_app
        self._backend = backend
        self._worker: Embedded | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if self._worker is None:
            # A server without lifespan: the first request starts the worker, and nothing drains it.
            logger.warning("The ASGI server sends no lifespan events: the worker starts now, and will not drain")
            self._start()
        await self._django_app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start at the server's start-up, drain at its shutdown."""
        while (await receive())["type"] == "lifespan.startup":
            try:
                self._start()
            except Exception as error:
                logger.exception("The worker cannot start")
                await send({"type": "lifespan.startup.failed", "message": f"The worker cannot start: {error}"})
                return
            await send({"type": "lifespan.startup.complete"})
        if self._worker is not None:
            await self._worker.stop()
        await send({"type": "lifespan.shutdown.complete"})

    def _start(self) -> None:
        config = conf.current()
        plan = topology.plan(backend=self._backend, scheduler=config.run_scheduler and bool(config.schedule))
        self._worker = Embedded(plan)
