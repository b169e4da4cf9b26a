"""The worker inside an ASGI server: pages and tasks in one process, started and drained with the server."""

import asyncio
import json
import signal
import socket
import time
import urllib.error
import urllib.request

import pytest
from django.db import connections

from django_vtasks import topology
from django_vtasks.topology.embedded import Embedded
from tests.batchapp import tasks as batches
from tests.integration.probes import PATIENCE, eventually
from tests.servers import free_port
from tests.workapp import tasks

SITE = "tests.workapp.site:application"
UVICORN = ("-m", "uvicorn", "--log-level", "info", SITE)
GRANIAN = ("-m", "granian", "--interface", "asgi", SITE)
SERVERS = {"uvicorn": UVICORN, "granian": GRANIAN}
WITHOUT_LIFESPAN = {
    "uvicorn": (*UVICORN, "--lifespan", "off"),
    "granian": ("-m", "granian", "--interface", "asginl", SITE),
}
WRONG = {
    "VTASKS_CONCURRENCY": ("0", "VTASKS_CONCURRENCY must be a whole number, at least 1"),  # no task can be declared
    "VTASKS_BACKEND": ("immediate", "The worker cannot start: TASKS['immediate'] is a ImmediateBackend"),
}
HANG = 15.0
SOON = 5.0


class Site:
    """A server that a test has started."""

    def __init__(self, stage, command, **environment):
        self._stage = stage
        self.port = free_port()
        options = ["--host", "127.0.0.1", "--port", str(self.port)]
        self.server = stage.start(*options, command=command, **environment)

    def get(self, path):
        """Return what a page says."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as answer:
            return json.load(answer)

    def until_serving(self):
        """Wait until the server listens, without asking it for a page."""
        eventually(lambda: self._listens() or not self.server.is_running, "the server listens")
        assert self.server.is_running, self.server.log
        return self

    def until_working(self):
        eventually(self._stage.broker.nodes, "the worker has a lease")
        return self

    def _listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


@pytest.fixture(params=SERVERS)
def server(request):
    return request.param


@pytest.fixture
def serve(stage, server):
    """Give a function that starts the site in the server at hand."""
    return lambda **environment: Site(stage, SERVERS[server], **environment).until_serving().until_working()


@pytest.fixture
def serve_without_lifespan(stage, server):
    return lambda **environment: Site(stage, WITHOUT_LIFESPAN[server], **environment).until_serving()


@pytest.mark.parametrize(
    "alias", ["default", "postgres", "valkey"], indirect=True, ids=["sqlite", "postgresql", "valkey"]
)
def test_tasks_that_pages_enqueue_run_in_the_same_process(serve, stage):
    site = serve()
    ids = [
        site.get("/enqueue/note_context/def-by-def/")["id"],
        site.get("/enqueue/anote_context/async-by-def/")["id"],
        site.get("/aenqueue/note_context/def-by-async/")["id"],
        site.get("/aenqueue/anote_context/async-by-async/")["id"],
    ]

    stage.until_empty()
    keys = ["def-by-def", "async-by-def", "def-by-async", "async-by-async"]
    assert stage.ledger.counts() == dict.fromkeys(keys, 1)
    seen = [stage.ledger.read(key)[0] for key in keys]
    assert [entry["id"] for entry in seen] == ids
    assert {entry["workers"][0].split(":")[0] for entry in seen} == set(stage.broker.nodes()), "one node ran them all"
    assert site.server.actors() == {}, "no process of the worker's own"


def test_an_idle_worker_ends_with_its_server(serve, stage):
    site = serve()
    site.server.send(signal.SIGTERM)

    site.server.exit_code(HANG)
    assert stage.broker.nodes() == {}
    assert site.server.processes() == []


def test_what_runs_finishes_before_the_server_ends(serve, stage):
    site = serve()
    for name in ("hold", "ahold"):
        site.get(f"/enqueue/{name}/{name}/")
    stage.ledger.wait_for("hold", "ahold")
    site.server.send(signal.SIGTERM)
    eventually(lambda: not site._listens(), "the server takes no more requests")
    stage.ledger.open("hold", "ahold")

    site.server.exit_code(HANG)
    stage.ledger.wait_for("hold-end", "ahold-end")
    assert stage.failed() == {}
    assert stage.broker.nodes() == {}


def test_what_is_longer_than_the_time_out_goes_back(serve, stage):
    site = serve(VTASKS_SHUTDOWN_TIMEOUT="3")
    ids = [site.get(f"/enqueue/{name}/{name}/")["id"] for name in ("hold", "ahold")]
    stage.ledger.wait_for("hold", "ahold")
    site.server.send(signal.SIGTERM)

    site.server.exit_code(HANG)
    stage.ledger.wait_for("ahold-cancelled")
    rows = stage.rows()
    assert {row.task_id for row in rows} == set(ids)
    assert {(row.state, row.attempt, row.crashes, row.owner, row.node) for row in rows} == {(0, 0, 0, None, None)}
    assert stage.broker.nodes() == {}


@pytest.mark.parametrize("setting", WRONG)
def test_a_wrong_setting_keeps_the_server_from_starting(stage, server, setting):
    value, complaint = WRONG[setting]
    site = Site(stage, SERVERS[server], **{setting: value})

    assert site.server.exit_code(HANG) != 0
    assert complaint in site.server.log
    assert stage.broker.nodes() == {}


class TestWithoutLifespan:
    def test_the_first_request_starts_the_worker(self, serve_without_lifespan, stage):
        tasks.note.enqueue("waiting")
        site = serve_without_lifespan()
        assert stage.broker.nodes() == {}
        site.get("/enqueue/note/first/")
        site.get("/enqueue/anote/second/")

        stage.until_empty()
        assert stage.ledger.counts() == {"waiting": 1, "first": 1, "second": 1}
        assert len(stage.broker.nodes()) == 1
        assert site.server.log.count("no lifespan events") == 1

    def test_what_it_leaves_behind_is_taken_over(self, serve_without_lifespan, stage):
        site = serve_without_lifespan(VTASKS_LEASE="1.5")
        site.get("/enqueue/ahold/ahold/")
        stage.ledger.wait_for("ahold")
        site.server.send(signal.SIGTERM)
        site.server.exit_code(HANG)
        stage.worker(VTASKS_LEASE="1.5")

        stage.ledger.wait_for("ahold", times=2)
        stage.ledger.open("ahold")
        stage.until_empty()

    def test_a_wrong_setting_fails_the_request_and_names_itself(self, serve_without_lifespan):
        site = serve_without_lifespan(VTASKS_BACKEND="immediate")

        with pytest.raises(urllib.error.HTTPError, match="500"):
            site.get("/enqueue/note/never/")
        site.server.until_it_says("TASKS['immediate'] is a ImmediateBackend")


class TestRecovery:
    def test_it_takes_over_from_a_worker_that_vanished(self, serve, stage):
        vanishing = stage.worker(VTASKS_LEASE="1.5")
        tasks.ahold.enqueue("ahold")
        stage.ledger.wait_for("ahold")
        serve(VTASKS_LEASE="1.5")
        eventually(lambda: len(stage.broker.nodes()) == 2, "two workers")
        vanishing.kill()

        stage.ledger.wait_for("ahold", times=2)
        stage.ledger.open("ahold")
        stage.until_empty()
        assert stage.failed() == {}

    def test_a_blocked_loop_does_not_cost_the_lease(self, serve, stage):
        site = serve(VTASKS_LEASE="1.5")
        stage.worker("--queue", "default", "--concurrency", "1", VTASKS_LEASE="1.5")
        for number in range(4):
            site.get(f"/enqueue/ahold/h{number}/")
        stage.ledger.wait_for("h0", "h1", "h2", "h3")
        site.get("/block/4/")
        stage.ledger.open("h0", "h1", "h2", "h3")

        stage.until_empty()
        assert stage.ledger.counts() == {f"h{n}{end}": 1 for n in range(4) for end in ("", "-end")}
        assert "lease" not in site.server.log


class TestGuest:
    """On a loop of the test's own."""

    @pytest.fixture(autouse=True)
    def short_lease(self, stage, settings, monkeypatch):
        monkeypatch.setattr(tasks, "LEDGER", stage.ledger.directory)
        settings(VTASKS_LEASE=1.5, VTASKS_SHUTDOWN_TIMEOUT=3)

    async def test_an_actor_that_ends_is_replaced_and_its_tasks_run_again(self, stage):
        embedded = Embedded(topology.plan())
        try:
            await apart(tasks.ahold.enqueue, "ahold")
            await apart(stage.ledger.wait_for, "ahold")
            [actor] = [task for task in asyncio.all_tasks() if task.get_name() == "vtasks: default#1"]
            actor.cancel()

            await apart(stage.ledger.wait_for, "ahold", times=2)
            stage.ledger.open("ahold")
            await apart(stage.until_empty)
        finally:
            await embedded.stop()
        assert await apart(stage.failed) == {}
        assert await apart(stage.broker.nodes) == {}

    async def test_a_stop_that_is_cancelled_gives_back_at_once(self, stage, settings):
        settings(VTASKS_SHUTDOWN_TIMEOUT=60)
        embedded = Embedded(topology.plan())
        await apart(tasks.ahold.enqueue, "ahold")
        await apart(stage.ledger.wait_for, "ahold")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await embedded.stop()

        await embedded.stop()
        await apart(assert_given_back, stage)

    def test_a_loop_that_ends_without_a_word_gives_back_too(self, stage):
        async def main():
            worker = Embedded(topology.plan())
            await apart(tasks.ahold.enqueue, "ahold")
            await apart(stage.ledger.wait_for, "ahold")
            return worker

        began = time.monotonic()
        asyncio.run(main())
        assert time.monotonic() - began < SOON
        assert_given_back(stage)
        assert stage.failed() == {}, "being cancelled was not the task's fault"

    async def test_it_knows_nothing_of_the_context_it_is_started_in(self, stage):
        tasks.tenant.set("of the first request")
        embedded = Embedded(topology.plan())
        await apart(tasks.see_context.enqueue, "def")
        await apart(tasks.asee_context.enqueue, "async")
        await apart(stage.until_empty)
        await embedded.stop()

        assert [stage.ledger.read(key)[0]["tenant"] for key in ("def", "async")] == ["nobody", "nobody"]

    async def test_it_does_not_speak_to_systemd_for_its_host(self, stage, tmp_path, monkeypatch):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(tmp_path / "notify"))
            systemd.settimeout(0)
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
            embedded = Embedded(topology.plan())
            await apart(tasks.anote.enqueue, "note")
            await apart(stage.until_empty)
            await embedded.stop()

            with pytest.raises(BlockingIOError):
                systemd.recv(1000)


class TestBatchesAndSchedule:
    """What other workers have processes for are tasks of the loop here."""

    @pytest.fixture(autouse=True)
    def in_this_process(self, stage, settings, monkeypatch):
        monkeypatch.setattr(tasks, "LEDGER", stage.ledger.directory)
        settings(
            VTASKS_BATCH_QUEUES={"widgets": {"count": 3, "timeout": 60}},
            VTASKS_SCHEDULE={"tick": {"task": "tests.workapp.tasks.note", "schedule": 0.2, "args": ["tick"]}},
        )

    async def test_a_batch_queue_is_collected_and_drained_like_any_other(self, stage):
        embedded = Embedded(topology.plan())
        try:
            await apart(send_widgets, stage, batches.acollect, range(3))
            await apart(stage.ledger.wait_for, "amember-0", "amember-1", "amember-2")
            await apart(send_widgets, stage, batches.collect, range(2))
            await apart(eventually, lambda: stage.running() == 2, "a partial batch is collected")
        finally:
            await embedded.stop()

        counts = await apart(stage.ledger.counts)
        assert counts == dict.fromkeys(
            ("acollect", "amember-0", "amember-1", "amember-2", "collect", "member-0", "member-1"), 1
        )
        assert await apart(stage.size) == 0

    async def test_a_batching_actor_that_ends_is_replaced_and_its_members_run(self, stage):
        embedded = Embedded(topology.plan())
        try:
            await apart(send_widgets, stage, batches.collect, range(2))
            await apart(eventually, lambda: stage.running() == 2, "a partial batch is collected")
            [actor] = [task for task in asyncio.all_tasks() if task.get_name() == "vtasks: widgets (batch)"]
            actor.cancel()
            await apart(eventually, lambda: stage.running() == 0 or actor.done(), "it has ended")
            await apart(send_widgets, stage, batches.collect, [2])
            await apart(stage.ledger.wait_for, "member-0", "member-1", "member-2")
        finally:
            await embedded.stop()

        counts = await apart(stage.ledger.counts)
        assert [counts[f"member-{number}"] for number in range(3)] == [1, 1, 1]
        assert await apart(stage.failed) == {}

    async def test_the_scheduler_leads_and_gives_up_the_lead_at_the_end(self, stage):
        embedded = Embedded(topology.plan(scheduler=True))
        try:
            await apart(stage.ledger.wait_for, "tick", times=5)
            assert await apart(stage.broker.leader, "scheduler") == next(iter(await apart(stage.broker.nodes)))
        finally:
            await embedded.stop()

        assert await apart(stage.broker.leader, "scheduler") is None
        ran = await apart(stage.ledger.counts)
        standing = (await apart(stage.broker.standings))["tick"]
        # What the scheduler enqueued after the actors had stopped waits, each slot once.
        slots = round(standing.last / 0.2) - int(standing.since // 0.2)
        assert ran["tick"] + await apart(stage.size) == slots

    async def test_without_being_asked_to_it_schedules_nothing(self, stage):
        embedded = Embedded(topology.plan())
        await apart(tasks.anote.enqueue, "note")
        await apart(stage.until_empty)
        await embedded.stop()

        assert await apart(stage.broker.standings) == {}


class TestScheduleInAServer:
    SCHEDULE = json.dumps({"tick": {"task": "tests.workapp.tasks.note", "schedule": 0.2, "args": ["tick"]}})

    def test_a_schedule_runs_with_the_pages_unless_a_setting_says_no(self, serve, stage):
        serve(VTASKS_SCHEDULE=self.SCHEDULE)
        stage.ledger.wait_for("tick", times=3)

    def test_a_setting_keeps_it_from_running(self, serve, stage):
        site = serve(VTASKS_SCHEDULE=self.SCHEDULE, VTASKS_RUN_SCHEDULER="no")
        site.get("/enqueue/note/note/")
        stage.ledger.wait_for("note")

        assert stage.broker.leader("scheduler") is None
        assert stage.broker.standings() == {}


def send_widgets(stage, task, numbers):
    queued = task.using(queue_name="widgets")
    stage.enqueue_many((queued, (), {"number": number}) for number in numbers)


async def apart(function, *args, **kwargs):
    """Call a function on a thread, and leave no connection of that thread's."""

    def call():
        try:
            return function(*args, **kwargs)
        finally:
            connections.close_all()

    return await asyncio.to_thread(call)


def assert_given_back(stage):
    [row] = stage.rows()
    assert (row.state, row.attempt, row.crashes, row.owner, row.node) == (0, 0, 0, None, None)
    assert stage.broker.nodes() == {}
