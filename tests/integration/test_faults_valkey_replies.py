"""Valkey that answers and refuses: those who enqueue are told why, a worker backs off and goes on afterwards."""

import contextlib
import os
import threading
import time

import pytest
import valkey
from asgiref.sync import sync_to_async
from valkey.exceptions import ResponseError

from django_vtasks.errors import BrokerUnavailable
from tests import databases, servers
from tests.contract.threads import aside
from tests.integration.probes import eventually
from tests.integration.valkeys import own_valkey
from tests.workapp import tasks

COUNT = 300
TOLD_WITHIN = 5.0
GOES_ON_WITHIN = 10.0
SIX_FAILURES = 1.5
"""Seconds that the pauses between six failures take together at least."""
LOOKS = 4
"""What a worker of one actor needs its server for: it claims, settles, renews its lease, looks at the queues."""


@pytest.fixture
def server():
    databases.require_server("valkey")
    with own_valkey() as server:
        yield server


@pytest.fixture
def stage(server, stages):
    stage = stages("valkey", TEST_TASKS_VALKEY=server.url, VTASKS_LEASE="30")
    yield stage
    stage.stop()


@contextlib.contextmanager
def without_a_disk(server):
    """MISCONF: no snapshot can be written any more."""
    with server.client() as client:
        server.configure(**{"save": "3600 1", "stop-writes-on-bgsave-error": "yes"})

        def snapshot(expected):
            client.bgsave()
            eventually(
                lambda: client.info("persistence")["rdb_last_bgsave_status"] == expected, f"a snapshot: {expected}"
            )

        server.data.chmod(0o555)
        try:
            snapshot("err")
            yield
        finally:
            server.data.chmod(0o755)
        snapshot("ok")


@contextlib.contextmanager
def with_a_script_that_never_ends(server):
    """BUSY."""
    server.configure(**{"busy-reply-threshold": 100})

    def run():
        with server.client() as client, contextlib.suppress(ResponseError):
            client.eval("while true do end", 0)

    with server.client() as client:
        client.ping()  # connects, which a busy server might refuse
        running = threading.Thread(target=run)
        running.start()
        try:
            eventually(lambda: refuses(server.url, "BUSY"), "the server is busy")
            yield
        finally:
            client.script_kill()
            running.join()


@contextlib.contextmanager
def as_a_replica(server):
    """READONLY."""
    with server.client() as client:
        client.replicaof("127.0.0.1", servers.free_port())
        try:
            yield
        finally:
            client.replicaof("NO", "ONE")


@contextlib.contextmanager
def while_it_loads(server):
    """LOADING: each key takes its time, and the server answers in between."""
    server.keep_data()
    with server.client() as client:
        client.mset({f"ballast:{number}": os.urandom(1024).hex() for number in range(500)})
        client.bgrewriteaof()
        eventually(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "all is in the base file")
    server.end()
    server.launch("--key-load-delay", "200000", "--loading-process-events-interval-bytes", "1024")
    eventually(lambda: refuses(server.url, "Valkey is loading"), "the server is loading")
    try:
        yield
    finally:
        server.configure(**{"key-load-delay": 0})
    server.until_it_answers()


def refuses(url, text):
    with valkey.Valkey.from_url(url) as client:
        try:
            client.set("ballast:probe", "x")
        except valkey.ValkeyError as error:
            return text in str(error)
    return False


TROUBLES = {
    "MISCONF": (without_a_disk, "cannot save its data to disk, and takes nothing until it can"),
    "BUSY": (with_a_script_that_never_ends, "is busy with a long script"),
    "READONLY": (as_a_replica, "is a replica, which takes no tasks: BROKER_URL must name the primary"),
    "LOADING": (while_it_loads, "is loading its data"),
}
of_all_kinds = pytest.mark.parametrize(("trouble", "reason"), TROUBLES.values(), ids=TROUBLES)


@of_all_kinds
async def test_who_enqueues_is_told_why_the_server_refuses(trouble, reason, server, stage):
    """On connections that are there already, and on new ones."""

    async def assert_refused(enqueue):
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=f"Valkey at 127.0.0.1:{server.port}/0 {reason}"):
            await enqueue("refused")
        assert time.monotonic() - began < TOLD_WITHIN

    ways = (tasks.note.aenqueue, sync_to_async(tasks.note.enqueue))
    for enqueue in ways:
        await enqueue("before")
    with contextlib.ExitStack() as stack:
        await aside(stack.enter_context, trouble(server))  # the loop learns meanwhile that a connection ends
        for enqueue in ways:
            await assert_refused(enqueue)
        await stage.broker.aclose()
        for enqueue in ways:
            await assert_refused(enqueue)

    for enqueue in ways:
        await enqueue("after")
    assert stage.size() == 4
    await stage.broker.aclose()


@of_all_kinds
def test_a_worker_backs_off_while_the_server_refuses_and_goes_on_when_it_does_not(trouble, reason, server, stage):
    tasks.ahold.enqueue("held")
    stage.enqueue_many([((tasks.work, tasks.awork)[n % 2], (f"t{n}", 0.02), {}) for n in range(COUNT)])
    worker = stage.worker("--concurrency", "8")
    eventually(lambda: stage.ledger.counts().total() > 50, "some have run")
    began = time.monotonic()
    with trouble(server):
        worker.until_it_says(reason)
        worker.until_it_says("(6 failures)")
        assert time.monotonic() - began > SIX_FAILURES
        assert len(worker.log_lines("Still cannot")) <= LOOKS * 8
    ran = stage.ledger.counts().total()
    assert ran < COUNT, "VACUOUS: all had run"

    eventually(lambda: stage.ledger.counts().total() > ran + 8, "more have run", GOES_ON_WITHIN)
    stage.ledger.open("held")
    stage.until_empty()
    assert stage.ledger.counts() == {f"t{number}": 1 for number in range(COUNT)} | {"held": 1, "held-end": 1}
    assert stage.failed() == {}
    assert worker.is_running
    assert "had run out" not in worker.log
