"""get_worker_application as an ASGI server sees it; the worker itself is a double."""

import asyncio

import pytest
from django.test import override_settings

from django_vtasks import asgi
from django_vtasks.asgi import get_worker_application

LIFESPAN = {"type": "lifespan", "asgi": {"version": "3.0"}}
PAGE = {"type": "http", "path": "/"}
SCHEDULE = {"daily": {"task": "app.tasks.report", "schedule": 60}}


class Worker:
    """Takes the place of Embedded."""

    made: list["Worker"]

    def __init__(self, plan):
        self.plan = plan
        self.stopped = False
        self.made.append(self)

    async def stop(self):
        self.stopped = True


@pytest.fixture(autouse=True)
def workers(monkeypatch):
    Worker.made = []
    monkeypatch.setattr(asgi, "Embedded", Worker)
    return Worker.made


class Server:
    """Sends an application what it is told to, and keeps what comes back."""

    def __init__(self, application):
        self.application = application
        self.inbox: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self.outbox: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    def live(self):
        return asyncio.create_task(self.application(LIFESPAN, self.inbox.get, self.outbox.put))

    async def say(self, kind):
        """Send an event of the lifespan; return the answer."""
        await self.inbox.put({"type": f"lifespan.{kind}"})
        async with asyncio.timeout(5):
            return await self.outbox.get()

    async def page(self):
        await self.application(PAGE, self.inbox.get, self.outbox.put)


@pytest.fixture
def pages():
    return []


@pytest.fixture
def application(pages):
    async def django_app(scope, receive, send):
        await asyncio.sleep(0)
        pages.append(scope)

    return get_worker_application(django_app)


async def test_the_worker_lives_as_long_as_the_server(application, workers, pages):
    server = Server(application)
    living = server.live()
    assert await server.say("startup") == {"type": "lifespan.startup.complete"}
    [worker] = workers
    await server.page()
    assert not worker.stopped

    assert await server.say("shutdown") == {"type": "lifespan.shutdown.complete"}
    await living
    assert worker.stopped
    assert workers == [worker]
    assert pages == [PAGE], "the lifespan is none of Django's business"


async def test_the_server_hears_of_its_end_only_when_the_worker_has_drained(application, workers, monkeypatch):
    drained = asyncio.Event()
    monkeypatch.setattr(Worker, "stop", lambda _: drained.wait())
    server = Server(application)
    living = server.live()
    await server.say("startup")
    await server.inbox.put({"type": "lifespan.shutdown"})
    await asyncio.sleep(0)
    assert server.outbox.empty()

    drained.set()
    await living
    assert server.outbox.get_nowait() == {"type": "lifespan.shutdown.complete"}


async def test_a_start_that_fails_is_told_to_the_server(application, workers):
    server = Server(application)
    living = server.live()
    with override_settings(VTASKS_LEASE=-1):
        answer = await server.say("startup")
    await living

    assert answer["type"] == "lifespan.startup.failed"
    assert "VTASKS_LEASE must be a positive number" in answer["message"]
    assert workers == []


async def test_an_unknown_backend_fails_the_start():
    server = Server(get_worker_application(None, backend="nowhere"))  # type: ignore[arg-type]
    living = server.live()
    answer = await server.say("startup")
    await living

    assert answer["type"] == "lifespan.startup.failed"
    assert "nowhere" in str(answer["message"])


async def test_a_shutdown_without_a_start_up_is_confirmed(application, workers):
    server = Server(application)
    living = server.live()

    assert await server.say("shutdown") == {"type": "lifespan.shutdown.complete"}
    await living
    assert workers == []


async def test_without_lifespan_the_first_of_many_requests_starts_the_worker(application, workers, pages, caplog):
    server = Server(application)
    await asyncio.gather(*(server.page() for _ in range(3)))

    assert len(workers) == 1
    assert pages == [PAGE] * 3
    assert caplog.text.count("no lifespan events") == 1


async def test_without_lifespan_a_start_that_fails_fails_the_requests(application, workers, pages):
    server = Server(application)
    with override_settings(VTASKS_LEASE=-1):
        for _ in range(2):
            with pytest.raises(Exception, match="VTASKS_LEASE"):
                await server.page()
    assert pages == []

    await server.page()
    assert len(workers) == 1


@pytest.mark.parametrize(
    ("settings", "schedules"),
    [
        ({}, False),
        ({"VTASKS_SCHEDULE": SCHEDULE}, True),
        ({"VTASKS_SCHEDULE": SCHEDULE, "VTASKS_RUN_SCHEDULER": False}, False),
    ],
    ids=["no schedule", "a schedule", "told not to"],
)
async def test_the_worker_schedules_when_there_is_a_schedule_and_nothing_against_it(
    application, workers, settings, schedules
):
    with override_settings(**settings):
        await Server(application).page()

    [worker] = workers
    assert worker.plan.scheduler is schedules
