"""What a running worker says of its health: over HTTP, in a file, to systemd."""

import os
import signal
import socket
import sqlite3
import time

import pytest
from django.conf import settings as djangos_settings  # noqa: TID251  # the path of the file

from tests.integration.pages import Pages
from tests.integration.probes import eventually
from tests.servers import free_port
from tests.workapp import tasks

LEASE = 1.5


@pytest.fixture
def port(stage):
    stage.environment["VTASKS_LEASE"] = str(LEASE)
    return free_port()


@pytest.fixture
def pages(port):
    return Pages(port)


@pytest.fixture
def worker(stage, port):
    return stage.worker("--health-port", str(port))


class TestALife:
    def test_live_ready_and_health_from_the_first_moment_to_the_last(self, stage, port, pages):
        assert pages.status("/live") == 0
        worker = stage.worker("--health-port", str(port), "--processes", "2", "--concurrency", "2", "--id", "alpha")
        assert pages.until("/ready", 200) == {"ready": True}
        assert pages.get("/live") == (200, {"status": "alive"})
        tasks.hold.enqueue("held")
        stage.ledger.wait_for("held")
        report = eventually(lambda: _counting(pages), "the report counts the running task")

        assert (report["status"], report["problems"], report["ready"]) == ("healthy", [], True)
        assert report["node"].startswith("alpha-")
        assert {actor["name"]: actor["pid"] for actor in report["actors"]} == worker.actors()
        assert {(actor["state"], actor["restarts"]) for actor in report["actors"]} == {("ready", 0)}
        worker.send(signal.SIGTERM)
        worker.until_it_says("drains")
        assert pages.until("/ready", 503) == {"ready": False}
        assert pages.status("/live") == 200
        assert pages.get("/health")[1]["draining"]
        stage.ledger.open("held")
        assert worker.exit_code() == 0
        assert pages.status("/live") == 0

    def test_the_death_of_an_actor_is_no_ill_health_but_can_be_seen(self, stage, worker, pages):
        tasks.hold.enqueue("held")
        stage.ledger.wait_for("held")
        os.kill(worker.actors()["default#1"], signal.SIGKILL)
        stage.ledger.open("held")
        stage.until_empty()

        [actor] = eventually(
            lambda: [a for a in pages.get("/health")[1]["actors"] if a["restarts"] == 1], "an actor that was replaced"
        )
        assert actor["last_exit"] == "signal SIGKILL"
        assert pages.status("/health") == 200

    def test_a_worker_that_waits_for_its_database_is_alive_and_not_ready(self, stage, port, pages):
        stage.environment["TEST_SQLITE_TIMEOUT"] = "0.3"
        connection = sqlite3.connect(djangos_settings.DATABASES["default"]["NAME"], isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        worker = stage.start("--health-port", str(port))
        try:
            pages.until("/live", 200)
            assert pages.get("/ready") == (503, {"ready": False})
            assert pages.get("/health")[1]["problems"] == ["the broker has not answered yet"]
            assert "takes tasks of" not in worker.log
        finally:
            connection.execute("ROLLBACK")
            connection.close()
        pages.until("/ready", 200)
        assert pages.status("/health") == 200

    def test_a_port_in_use_costs_the_pages_and_nothing_else(self, stage):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            worker = stage.worker("--health-port", str(port))
            tasks.note.enqueue("ran")
            stage.ledger.wait_for("ran")

        assert len(worker.log_lines("ERROR No health pages", f":{port}", "Address already in use")) == 1


class TestIllHealth:
    def test_while_the_database_is_gone_and_not_when_it_is_back(self, stage, port, pages):
        stage.environment["TEST_SQLITE_TIMEOUT"] = "0.3"
        stage.worker("--health-port", str(port))
        pages.until("/health", 200)
        connection = sqlite3.connect(djangos_settings.DATABASES["default"]["NAME"], isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        report = pages.until("/health", 503)
        assert report["problems"] == ["the broker does not answer: the node's lease has run out"]
        assert pages.status("/ready") == 503
        assert pages.status("/live") == 200
        connection.execute("ROLLBACK")
        connection.close()

        pages.until("/health", 200)
        pages.until("/ready", 200)

    def test_a_queue_of_which_all_actors_are_paused_makes_no_progress(self, stage, worker, pages):
        pages.until("/health", 200)
        worker.send(signal.SIGTSTP)
        worker.until_it_says("takes no new tasks")
        tasks.note.enqueue("waits")
        report = pages.until("/health", 503)

        assert report["problems"] == ["queue default makes no progress"]
        assert report["queues"]["default"]["waiting"] == 1
        assert report["queues"]["default"]["stalled"]
        worker.send(signal.SIGCONT)
        stage.until_empty()
        pages.until("/health", 200)

    def test_long_tasks_in_every_slot_are_none(self, stage, port, pages):
        stage.worker("--health-port", str(port), "--concurrency", "1")
        tasks.hold.enqueue("held")
        tasks.note.enqueue("behind")
        stage.ledger.wait_for("held")
        began = time.monotonic()
        long = 2 * LEASE + 1
        eventually(lambda: time.monotonic() > began + long, "a long time has passed")
        report = pages.get("/health")[1]

        assert (report["status"], report["queues"]["default"]["waiting"]) == ("healthy", 1)
        assert report["queues"]["default"]["seconds_since_progress"] > 2 * LEASE
        assert report["queues"]["default"]["oldest_running_seconds"] > 2 * LEASE
        stage.ledger.open("held")
        stage.until_empty()


def test_the_health_file_is_there_while_the_worker_is(stage, tmp_path):
    path = tmp_path / "health"
    path.write_text("left by an earlier worker")
    worker = stage.worker("--health-file", str(path))
    eventually(lambda: path.read_text().startswith("20"), "the present moment in the file")
    worker.send(signal.SIGTERM)

    assert worker.exit_code() == 0
    assert not path.exists()


def test_a_health_file_that_cannot_be_written_is_said_once_and_the_worker_works(stage, tmp_path):
    worker = stage.worker("--health-file", str(tmp_path / "no" / "such" / "directory"))
    tasks.note.enqueue("ran")
    stage.ledger.wait_for("ran")

    worker.until_it_says("cannot be kept")
    worker.send(signal.SIGTERM)
    assert worker.exit_code() == 0
    assert len(worker.log_lines("WARNING", "The health file", "No such file or directory")) == 1


class TestSystemd:
    @pytest.fixture
    def systemd(self, stage, tmp_path):
        """Give systemd's end of its socket, which the workers of the stage are told of."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(str(tmp_path / "notify"))
            receiver.settimeout(20)
            stage.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
            yield receiver

    def test_it_is_told_of_the_start_and_of_the_end(self, stage, systemd):
        tasks.hold.enqueue("held")
        worker = stage.start("--processes", "2")
        assert systemd.recv(1024) == b"READY=1"
        worker.until_it_says("takes tasks of", times=2)
        stage.ledger.wait_for("held")
        worker.send(signal.SIGTERM)

        assert systemd.recv(1024) == b"STOPPING=1"
        assert systemd.recv(1024) == b"EXTEND_TIMEOUT_USEC=30000000"
        assert worker.is_running
        stage.ledger.open("held")
        assert worker.exit_code() == 0

    def test_its_watchdog_hears_of_the_worker_all_the_time(self, stage, systemd):
        worker = stage.start(WATCHDOG_USEC="400000")
        assert sorted(_read(systemd, 6)) == [b"READY=1"] + [b"WATCHDOG=1"] * 5
        worker.freeze()
        systemd.settimeout(1.0)
        with pytest.raises(TimeoutError):
            _read(systemd, 10)  # all that was under way is read, and then nothing comes
        worker.thaw()
        systemd.settimeout(20)
        assert systemd.recv(1024) == b"WATCHDOG=1"


def _read(receiver, count):
    return [receiver.recv(1024) for _ in range(count)]


def _counting(pages):
    report = pages.get("/health")[1]
    return report if report["queues"]["default"]["running_here"] == 1 else None
