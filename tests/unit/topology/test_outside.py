"""What is seen of a worker from outside: pages that its loop answers, a file, messages to systemd."""

import asyncio
import contextlib
import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from django_vtasks.topology import outside as outside_module
from django_vtasks.topology.http import Response, listen
from django_vtasks.topology.notify import Notifier
from django_vtasks.topology.outside import Outside
from tests import servers
from tests.unit.topology.doubles import a_plan
from tests.unit.worker.doubles import soon


class Patient:
    """A health in the test's hands."""

    def __init__(self):
        self.is_ready = True
        self.wrong: list[str] = []
        self.has_actor = True

    def problems(self):
        return self.wrong

    def report(self):
        return {"problems": self.wrong}


@pytest.fixture
def health():
    return Patient()


@pytest.fixture
def free_port():
    return servers.free_port()


@pytest.fixture
def systemd(tmp_path):
    """Give systemd's end of its socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(10)
        yield receiver


@pytest.fixture
def told(systemd):
    """Give a function that returns what systemd is told next."""
    return lambda: asyncio.to_thread(lambda: systemd.recv(1024).decode())


@pytest.fixture
def open_to(health):
    def make(notifier=None, metrics=None, **fields):
        return Outside(a_plan(**fields), health, notifier or Notifier(), metrics)

    return make


def ask(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


async def page(port, path):
    return await asyncio.to_thread(ask, port, path)


def raw(port, path, accept):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Accept": accept})
        response = connection.getresponse()
        return response.status, response.read().decode()


class TestMetrics:
    @staticmethod
    def page(accept):
        return Response(200, f"for {accept}")

    async def test_have_a_port_of_their_own(self, open_to, free_port):
        with open_to(metrics=self.page, metrics_port=free_port) as outside:
            assert (outside.port, outside.metrics_port) == (None, free_port)
            assert not outside.is_watched, "nobody asks for the health page"
            assert await asyncio.to_thread(raw, free_port, "/metrics", "text/plain") == (200, "for text/plain")
            assert (await asyncio.to_thread(raw, free_port, "/live", ""))[0] == 404

    async def test_share_one_with_the_health_pages(self, open_to, free_port):
        with open_to(metrics=self.page, metrics_port=free_port, health_port=free_port) as outside:
            assert outside.port == outside.metrics_port == free_port
            assert (await asyncio.to_thread(raw, free_port, "/metrics", ""))[0] == 200
            assert (await asyncio.to_thread(raw, free_port, "/live", ""))[0] == 200

    async def test_are_answered_while_the_loop_stands_still(self, open_to, free_port):
        with open_to(metrics=self.page, metrics_port=free_port):
            assert raw(free_port, "/metrics", "x") == (200, "for x"), "asked by the loop itself, which waits"

    async def test_without_a_page_there_is_no_port(self, open_to, free_port):
        with open_to(metrics=None, metrics_port=free_port) as outside:
            assert outside.metrics_port is None

    async def test_of_two_ports_one_in_use_costs_its_own_pages_alone(self, open_to, free_port, caplog):
        with socket.create_server(("", 0)) as taken:
            used = taken.getsockname()[1]
            with open_to(metrics=self.page, metrics_port=used, health_port=free_port) as outside:
                assert (outside.port, outside.metrics_port) == (free_port, None)
                assert await page(free_port, "/live") == (200, {"status": "alive"})
        assert "No metrics: " in caplog.text

    async def test_a_shared_port_in_use_costs_both(self, open_to, caplog):
        with socket.create_server(("", 0)) as taken:
            used = taken.getsockname()[1]
            with open_to(metrics=self.page, metrics_port=used, health_port=used) as outside:
                assert (outside.port, outside.metrics_port) == (None, None)
        assert "No health pages and metrics: " in caplog.text


class TestPages:
    async def test_live_is_answered_while_the_loop_runs_whatever_else_is_wrong(self, open_to, free_port, health):
        health.wrong, health.is_ready = ["everything"], False
        with open_to(health_port=free_port) as outside:
            assert outside.is_watched
            assert await page(outside.port, "/live") == (200, {"status": "alive"})

    async def test_ready_and_health_say_yes_and_no_by_their_status(self, open_to, free_port, health):
        with open_to(health_port=free_port) as outside:
            assert await page(outside.port, "/ready") == (200, {"ready": True})
            assert await page(outside.port, "/health") == (200, {"problems": []})
            health.is_ready, health.wrong = False, ["queue mail makes no progress"]

            assert await page(outside.port, "/ready") == (503, {"ready": False})
            assert await page(outside.port, "/health") == (503, {"problems": ["queue mail makes no progress"]})

    @pytest.mark.parametrize("path", ["/live", "/ready", "/health"])
    async def test_a_blocked_loop_answers_nothing_so_that_no_page_is_well(self, open_to, free_port, monkeypatch, path):
        monkeypatch.setattr(outside_module, "ANSWER_WITHIN", 0.1)
        with open_to(health_port=free_port) as outside, ThreadPoolExecutor(1) as pool:
            # This thread is the loop's: it goes nowhere until the page has been answered without it.
            status, answer = pool.submit(ask, outside.port, path).result(10)

        assert status == 503
        assert answer == {"status": "the supervisor's loop does not answer"}

    async def test_a_port_in_use_is_said_and_the_worker_goes_on(self, open_to, caplog):
        with listen("", 0) as taken:
            port = taken.getsockname()[1]
            with open_to(health_port=port) as outside:
                assert outside.port is None
                assert not outside.is_watched

        assert f"No health pages: [Errno 98] Cannot listen on *:{port}: Address already in use" in caplog.text

    async def test_afterwards_the_port_is_free_again(self, open_to, free_port):
        with open_to(health_port=free_port):
            pass

        listen("", free_port).close()


class TestFile:
    async def test_it_is_young_while_the_worker_is_healthy_and_gone_in_the_end(
        self, open_to, tmp_path, health, monkeypatch
    ):
        monkeypatch.setattr(outside_module, "PULSE", 0.005)
        path = tmp_path / "health"
        with open_to(health_file=str(path)) as outside:
            assert outside.is_watched
            keeping = asyncio.create_task(outside.keep())
            await soon(path.exists)
            health.wrong = ["queue mail makes no progress"]
            quiet = _Quiet(path)
            await soon(quiet)
            health.wrong = []
            await soon(path.exists)
            keeping.cancel()
            await asyncio.wait({keeping})

        assert list(tmp_path.glob("*health*")) == []

    async def test_a_file_system_that_refuses_it_stops_nobody(self, open_to, tmp_path, caplog, monkeypatch):
        monkeypatch.setattr(outside_module, "PULSE", 0.005)
        with open_to(health_file=str(tmp_path / "no" / "such" / "directory")) as outside:
            keeping = asyncio.create_task(outside.keep())
            await soon(lambda: "cannot be kept" in caplog.text)
            await asyncio.sleep(0)
            assert not keeping.done()
            keeping.cancel()
            await asyncio.wait({keeping})

        assert caplog.text.count("cannot be kept") == 1


class TestSystemd:
    async def test_it_is_told_what_happens(self, open_to, systemd, told):
        outside = open_to(Notifier(systemd.getsockname()))
        outside.ready()
        assert await told() == "READY=1"
        outside.stopping(25.0)

        assert await told() == "STOPPING=1"
        assert await told() == "EXTEND_TIMEOUT_USEC=30000000"

    async def test_its_watchdog_hears_of_the_worker_while_it_has_an_actor_whatever_its_database_does(
        self, open_to, systemd, told, health
    ):
        outside = open_to(Notifier(systemd.getsockname(), watchdog_interval=0.005))
        keeping = asyncio.create_task(outside.keep())
        health.wrong = ["the broker does not answer"]
        for _ in range(3):
            assert await told() == "WATCHDOG=1"
        health.has_actor = False

        async with asyncio.timeout(5):
            while not await asyncio.to_thread(_is_silent, systemd):
                pass
        keeping.cancel()
        await asyncio.wait({keeping})

    async def test_where_nobody_watches_nothing_is_done(self, open_to):
        outside = open_to()

        await asyncio.wait_for(outside.keep(), 5)
        outside.ready()
        outside.stopping(25.0)


class _Quiet:
    """Tells whether a file has not been written again for ten times as long as a pulse."""

    def __init__(self, path):
        self._path = path
        self._since = 0.0

    def __call__(self):
        if self._path.exists():
            self._path.unlink(missing_ok=True)
            self._since = time.monotonic()
        return time.monotonic() > self._since + 0.05


def _is_silent(receiver):
    """Tell whether nothing comes for ten times as long as a pulse."""
    receiver.settimeout(0.05)
    try:
        receiver.recv(1024)
    except TimeoutError:
        return True
    return False
