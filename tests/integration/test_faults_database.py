"""Connections that die and databases that are away: no task is lost, run twice, or failed because of it."""

import signal
import sqlite3
import time
from typing import Any

import pytest
from django.conf import settings as djangos_settings  # noqa: TID251  # the file that the worker has
from django.db import connections

from tests.integration.outages import POSTGRES_SOCKET, backends, kill_backend, missing_socket
from tests.integration.probes import eventually
from tests.workapp import tasks

servers_only = pytest.mark.parametrize("alias", ["postgres", "mariadb"], indirect=True, ids=["postgresql", "mariadb"])

COUNT = 400


def enqueue_some(stage, count=COUNT):
    calls: list[Any] = [
        ((tasks.work, tasks.awork)[number % 2], (f"t{number}", 0.005 if number % 5 else 0.05), {})
        for number in range(count)
    ]
    stage.enqueue_many(calls)


def assert_each_ran_once(stage, count=COUNT):
    stage.until_empty()
    counts = stage.ledger.counts()
    assert counts.keys() == {f"t{number}" for number in range(count)}
    assert {key: times for key, times in counts.items() if times != 1} == {}
    assert stage.failed() == {}


@servers_only
def test_killing_all_connections_again_and_again_under_load(stage, alias):
    enqueue_some(stage)
    worker = stage.worker("--concurrency", "8")
    killed = rounds = 0

    def done():
        nonlocal killed, rounds
        if rounds < stage.ledger.counts().total() // 25:
            rounds += 1
            killed += sum(kill_backend(alias, backend) for backend in backends(alias))
        return stage.size() == 0

    eventually(done, "all tasks have ended")
    assert_each_ran_once(stage)
    assert killed >= 8, f"VACUOUS: {killed} connections killed"
    assert worker.is_running
    assert "trying again until it works" in worker.log, "VACUOUS: the worker has not noticed"
    assert "had run out" not in worker.log


@servers_only
def test_a_task_after_its_kept_connection_was_killed_does_not_fail(stage, alias):
    """With CONN_MAX_AGE the connections of the tasks' threads outlive the tasks, not the server's restart."""
    tasks.meet.enqueue("first", 1)
    tasks.ameet.enqueue("afirst", 1)
    stage.worker("--concurrency", "1", TEST_CONN_MAX_AGE="600")
    stage.until_empty()
    for backend in backends(alias):
        kill_backend(alias, backend)
    tasks.meet.enqueue("second", 1)
    tasks.ameet.enqueue("asecond", 1)

    stage.until_empty()
    assert stage.failed() == {}
    assert {"second", "asecond"} <= stage.ledger.counts().keys()


@pytest.fixture
def socket_to_come(alias):
    """Give the path at which the server of an alias may be put up, and its real socket."""
    if alias not in connections:
        yield None
        return
    host = connections[alias].settings_dict["HOST"]
    server = f"{host}/{POSTGRES_SOCKET}" if alias == "postgres" else host
    with missing_socket(server) as path:
        yield path, server


@servers_only
class TestDatabaseDown:
    @pytest.fixture(autouse=True)
    def far_away(self, stage, alias, socket_to_come):
        self.path, self.server = socket_to_come
        name, value = (
            ("TEST_POSTGRES_HOST", self.path.parent) if alias == "postgres" else ("TEST_MARIADB_SOCKET", self.path)
        )
        stage.environment[name] = str(value)

    def test_a_worker_that_starts_meanwhile_comes_up_when_the_database_does(self, stage):
        enqueue_some(stage, 20)
        worker = stage.start()
        worker.until_it_says("trying again until it works")
        worker.until_it_says("Still cannot", times=2)
        self.path.symlink_to(self.server)

        assert_each_ran_once(stage, 20)
        assert worker.is_running

    def test_the_first_failure_is_logged_with_its_traceback_and_repeats_in_one_line(self, stage):
        worker = stage.start()
        worker.until_it_says("Still cannot", times=3)

        assert worker.log.count("trying again until it works") == 1
        assert worker.log.count("\nTraceback (most recent call last)") <= 2, "the driver's and Django's, of one failure"
        assert len(worker.log_lines("Still cannot", " failures): ")) >= 3

    def test_sigterm_ends_a_worker_that_never_came_up(self, stage):
        worker = stage.start()
        worker.until_it_says("Still cannot")
        worker.send(signal.SIGTERM)

        assert worker.exit_code(5) == 0

    def test_sigterm_ends_a_worker_whose_database_went_away(self, stage, alias):
        self.path.symlink_to(self.server)
        tasks.ahold.enqueue("held")
        worker = stage.worker(VTASKS_SHUTDOWN_TIMEOUT="4", VTASKS_LEASE="2")
        stage.ledger.wait_for("held")
        self.go_away(alias)
        stage.ledger.open("held")
        worker.until_it_says("Cannot settle tasks")
        began = time.monotonic()
        worker.send(signal.SIGTERM)

        assert worker.exit_code(12) == 0
        assert time.monotonic() - began <= 4 + 2
        # It is not lost: its outcome was not settled, and the next worker runs it again.
        self.path.symlink_to(self.server)
        stage.worker(VTASKS_LEASE="2")
        stage.until_empty()
        assert stage.ledger.counts()["held"] == 2

    def test_what_ended_meanwhile_is_settled_when_the_database_is_back(self, stage, alias):
        self.path.symlink_to(self.server)
        tasks.ahold.enqueue("aheld")
        tasks.hold.enqueue("held")
        worker = stage.worker()
        stage.ledger.wait_for("aheld", "held")
        self.go_away(alias)
        stage.ledger.open("aheld", "held")
        worker.until_it_says("Cannot settle tasks")
        stage.ledger.wait_for("aheld-end", "held-end")
        self.path.symlink_to(self.server)

        stage.until_empty()
        assert stage.failed() == {}
        assert set(stage.ledger.counts().values()) == {1}

    def go_away(self, alias):
        self.path.unlink()
        for backend in backends(alias):
            kill_backend(alias, backend)


class TestSQLite:
    """The file is locked by somebody's long transaction."""

    @pytest.fixture
    def long_writer(self, stage):
        stage.environment["TEST_SQLITE_TIMEOUT"] = "0.3"
        connection = sqlite3.connect(djangos_settings.DATABASES["default"]["NAME"], isolation_level=None)
        yield connection
        connection.close()

    def test_tasks_that_end_while_the_file_is_locked_are_settled_afterwards(self, stage, long_writer):
        enqueue_some(stage)
        worker = stage.worker("--concurrency", "8")
        eventually(lambda: stage.ledger.counts().total() > 20, "some have run")
        long_writer.execute("BEGIN IMMEDIATE")
        worker.until_it_says("database is locked", times=2)
        long_writer.execute("ROLLBACK")

        assert_each_ran_once(stage)
        assert worker.is_running

    def test_a_lock_longer_than_the_lease_costs_nothing_when_nobody_else_is_there(self, stage, long_writer):
        tasks.ahold.enqueue("t0")
        worker = stage.worker(VTASKS_LEASE="1")
        stage.ledger.wait_for("t0")
        long_writer.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        worker.until_it_says("Still cannot renew the lease")
        eventually(lambda: time.monotonic() > began + 1.5, "the lease has run out")
        long_writer.execute("ROLLBACK")
        stage.ledger.open("t0")

        stage.until_empty()
        assert stage.failed() == {}
        assert stage.ledger.counts() == {"t0": 1, "t0-end": 1}

    def test_a_drain_while_the_file_is_locked_ends_in_time_and_loses_nothing(self, stage, long_writer):
        enqueue_some(stage, 50)
        worker = stage.worker("--concurrency", "4", VTASKS_SHUTDOWN_TIMEOUT="3", VTASKS_LEASE="2")
        eventually(lambda: stage.ledger.counts().total() > 5, "some have run")
        long_writer.execute("BEGIN IMMEDIATE")
        worker.send(signal.SIGTERM)
        began = time.monotonic()
        code = worker.exit_code(12)
        took = time.monotonic() - began
        long_writer.execute("ROLLBACK")
        assert code == 0
        assert took <= 3 + 2

        stage.worker(VTASKS_LEASE="2")
        stage.until_empty()
        assert stage.ledger.counts().keys() == {f"t{number}" for number in range(50)}
        assert stage.failed() == {}
