"""PostgreSQL that restarts, freezes or cannot be heard: calls reach their deadline, the worker comes back."""

import contextlib
import signal
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connections

from django_vtasks.db.models import TaskState
from tests import databases, servers
from tests.integration.outages import Line, OwnPostgreSQL, backends, kill_backend
from tests.integration.probes import eventually
from tests.integration.workers import DEADLINE, IMPATIENT
from tests.workapp import tasks

COUNT = 300


@pytest.fixture(scope="module")
def own_server():
    """Give a durable server of this module's own, with this package's tables, under the alias `own`."""
    databases.require_server("postgres")
    with servers.running("durable-postgres") as addresses, contextlib.ExitStack() as stack:
        server = OwnPostgreSQL(Path(addresses["TEST_POSTGRES_HOST"]))
        stack.callback(server.close)
        settings = deepcopy(connections.settings["postgres"]) | {"HOST": str(server.directory)}
        with psycopg.connect(
            host=settings["HOST"], user=settings["USER"], dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f'CREATE DATABASE "{settings["NAME"]}"')
        connections.settings["own"] = settings
        stack.callback(connections.settings.pop, "own")
        call_command("migrate", database="own", verbosity=0)
        stack.callback(connections["own"].close)
        yield server


@pytest.fixture
def own(own_server, stages):
    """Give a stage on the module's own server, which runs again when the test ends."""
    databases.empty("own")
    stage = stages("own", TEST_TASKS_DATABASE="postgres", TEST_POSTGRES_HOST=str(own_server.directory))
    yield stage
    own_server.thaw()


def enqueue_some(stage):
    calls: list[Any] = [((tasks.work, tasks.awork)[number % 2], (f"t{number}", 0.02), {}) for number in range(COUNT)]
    stage.enqueue_many(calls)


def assert_all_ran(stage, *, again=0):
    """Every task has run, at most ``again`` of them twice, and none has failed."""
    stage.until_empty()
    counts = stage.ledger.counts()
    assert counts.keys() == {f"t{number}" for number in range(COUNT)}
    assert counts.total() - COUNT <= again
    assert stage.failed() == {}


def test_a_restart_of_the_server_loses_nothing(own, own_server):
    enqueue_some(own)
    worker = own.worker("--concurrency", "8")
    eventually(lambda: own.ledger.counts().total() > 50, "some have run")
    connections["own"].close()
    own_server.stop()
    worker.until_it_says("trying again until it works")
    own_server.start()

    # Settlements do not wait for the disk, so that a crash of the server may undo the last moments.
    assert_all_ran(own, again=COUNT - 50)
    assert worker.is_running


def test_a_frozen_server_costs_a_deadline_and_nothing_else(own, own_server):
    enqueue_some(own)
    worker = own.worker("--concurrency", "8", VTASKS_LEASE="30", **IMPATIENT)
    eventually(lambda: own.ledger.counts().total() > 50, "some have run")
    own_server.freeze()
    frozen = time.monotonic()
    worker.until_it_says(f"did not answer within {DEADLINE:g} s")
    assert time.monotonic() - frozen <= 2 * DEADLINE + 2
    # The second deadline is met while a new connection is being opened.
    worker.until_it_says("Still cannot")
    own_server.thaw()

    assert_all_ran(own)
    assert worker.is_running


def test_a_server_frozen_beyond_the_lease_runs_a_task_twice_at_most(own, own_server):
    enqueue_some(own)
    worker = own.worker("--concurrency", "8", VTASKS_LEASE="2", **IMPATIENT)
    eventually(lambda: own.ledger.counts().total() > 50, "some have run")
    own_server.freeze()
    frozen = time.monotonic()
    eventually(lambda: time.monotonic() > frozen + 4, "the lease has run out")
    own_server.thaw()

    assert_all_ran(own, again=16)
    assert worker.is_running


def test_the_end_of_a_worker_does_not_wait_for_threads_that_wait_for_the_store(own, own_server):
    tasks.ahold.enqueue("held")
    worker = own.worker(VTASKS_SHUTDOWN_TIMEOUT="2", VTASKS_LEASE="30")
    own.ledger.wait_for("held")
    own_server.freeze()
    worker.send(signal.SIGTERM)

    # Two seconds to drain, and a few for killing, handing back, and ending the lease.
    assert worker.exit_code(2 + 5) == 0
    eventually(lambda: not worker.processes(), "no process is left")


@pytest.fixture
def line(alias, stage):
    line = Line(connections[alias].settings_dict["HOST"])
    yield line
    stage.stop()
    line.close()


@pytest.mark.parametrize("alias", ["postgres"], indirect=True, ids=["postgresql"])
class TestDeadLine:
    """The server is well, but not a byte comes through on the connections that were open."""

    def worker(self, stage, line, *options, **environment):
        worker = stage.worker(*options, TEST_POSTGRES_HOST=str(line.directory), **IMPATIENT, **environment)
        tasks.note.enqueue("warm-up")
        stage.until_empty()
        return worker

    def test_tasks_claimed_by_an_answer_that_never_arrived_are_given_back(self, stage, line):
        worker = self.worker(stage, line)
        line.swallow_answers(beginning_with=b"note_context")
        for number in range(3):
            tasks.note_context.enqueue(f"n{number}")
        eventually(lambda: len(stage.rows(state=TaskState.RUNNING)) == 3, "the claim nobody hears of is booked")
        worker.until_it_says(f"did not answer within {DEADLINE:g} s")

        stage.until_empty()
        for number in range(3):
            assert [entry["attempt"] for entry in stage.ledger.read(f"n{number}")] == [1]
        assert stage.failed() == {}

    def test_what_was_settled_without_an_answer_is_not_run_again(self, stage, line):
        worker = self.worker(stage, line)
        for task in (tasks.hold, tasks.ahold):
            task.enqueue(task.func.__name__)
        stage.ledger.wait_for("hold", "ahold")
        line.swallow_answers()
        stage.ledger.open("hold", "ahold")
        worker.until_it_says("Cannot settle tasks")

        stage.until_empty()
        tasks.note.enqueue("after")
        stage.ledger.wait_for("after")
        counts = stage.ledger.counts()
        assert {counts[key] for key in ("hold", "ahold", "hold-end", "ahold-end")} == {1}
        assert stage.failed() == {}

    def test_the_lease_is_renewed_on_another_connection(self, stage, line, settings):
        settings(VTASKS_QUEUES=["mail"])
        stage.environment |= {"VTASKS_QUEUES": "mail", "VTASKS_LEASE": "3"}
        worker = self.worker(stage, line, "--queue", "default")
        stage.worker("--queue", "mail", "--id", "the reclaimer")
        line.go_dead()
        began = time.monotonic()
        eventually(lambda: time.monotonic() > began + 6, "a lease that nobody renews has run out")
        tasks.note.enqueue("after")

        stage.ledger.wait_for("after", within=10)
        stage.until_empty()
        assert worker.is_running

    def test_it_does_not_cost_the_lease(self, stage, line):
        """A renewal that gets no answer must be given up while there is time for another."""
        stage.environment["VTASKS_LEASE"] = "4"
        tasks.ahold.enqueue("held")
        first = stage.worker("--id", "alpha", TEST_POSTGRES_HOST=str(line.directory))
        stage.ledger.wait_for("held")
        stage.worker("--id", "beta")
        line.go_dead()
        began = time.monotonic()
        eventually(lambda: time.monotonic() > began + 7, "the lease would have run out")

        assert stage.ledger.counts() == {"held": 1}
        assert "had run out" not in first.log

    def test_it_listens_again_on_another_connection(self, stage, line, alias):
        worker = self.worker(stage, line)
        deaf = {backend for backend, query in backends(alias).items() if query.startswith("LISTEN")}
        line.go_dead()
        worker.until_it_says(f"did not answer within {DEADLINE:g} s")

        def listens():
            return {backend for backend, query in backends(alias).items() if query.startswith("LISTEN")} - deaf

        eventually(listens, "the worker listens again", within=10)


@pytest.mark.parametrize("alias", ["postgres"], indirect=True, ids=["postgresql"])
class TestListen:
    @pytest.fixture
    def accept(self, alias, stage):
        """Give a function that lets the database accept connections, or no further ones."""
        settings = connections[alias].settings_dict

        def allow(*, newcomers):
            # Not from a connection to the database itself.
            with psycopg.connect(
                host=settings["HOST"], user=settings["USER"], dbname="postgres", autocommit=True
            ) as connection:
                connection.execute(f'ALTER DATABASE "{settings["NAME"]}" WITH ALLOW_CONNECTIONS {newcomers}')

        yield allow
        allow(newcomers=True)

    def listener(self, alias, other_than=None):
        listening = [backend for backend, query in backends(alias).items() if query.startswith("LISTEN")]
        return next((backend for backend in listening if backend != other_than), None)

    def test_a_killed_connection_is_replaced(self, stage, alias):
        worker = stage.worker()
        first = eventually(lambda: self.listener(alias), "the worker listens")
        kill_backend(alias, first)
        eventually(lambda: self.listener(alias, other_than=first), "the worker listens again", within=8)

        assert "Lost the LISTEN connection" in worker.log
        tasks.note.enqueue("after")
        stage.ledger.wait_for("after", within=2)
        stage.until_empty()

    def test_while_it_cannot_listen_it_polls(self, stage, alias, accept):
        worker = stage.worker()
        first = eventually(lambda: self.listener(alias), "the worker listens")
        accept(newcomers=False)
        kill_backend(alias, first)
        worker.until_it_says("polling instead")
        for number in range(3):
            tasks.note.enqueue(f"polled{number}")
            stage.ledger.wait_for(f"polled{number}", within=2)
        assert self.listener(alias, other_than=first) is None
        assert worker.log.count("polling instead") == 1

        accept(newcomers=True)
        eventually(lambda: self.listener(alias), "the worker listens again", within=12)
        stage.until_empty()
