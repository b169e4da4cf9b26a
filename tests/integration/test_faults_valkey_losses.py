"""What is lost with a Valkey that is killed, or whose replica takes its place: no more than users are told."""

import contextlib
import itertools
import signal
import threading
import time

import pytest
import valkey

from django_vtasks.errors import BrokerUnavailable
from tests import databases
from tests.integration.probes import eventually
from tests.integration.proxies import Proxy
from tests.integration.valkeys import own_valkey
from tests.workapp import tasks

TOLD_EVERYSEC = 2.0
"""Seconds before a crash of which docs/howto/valkey.md promises nothing."""


@pytest.fixture
def server():
    databases.require_server("valkey")
    with own_valkey() as server:
        yield server


class Producer(threading.Thread):
    """Enqueues until it cannot any more, and notes when what was acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.acknowledged: dict[str, float] = {}
        self._pause = threading.Event()

    def run(self) -> None:
        with contextlib.suppress(BrokerUnavailable):
            for number in itertools.count():
                tasks.note.enqueue(f"n{number}")
                self.acknowledged[f"n{number}"] = time.monotonic()
                self._pause.wait(0.001)


@pytest.mark.parametrize(("appendfsync", "unsafe"), [("always", 0.0), ("everysec", TOLD_EVERYSEC)])
def test_what_was_acknowledged_before_a_kill_runs_after_it(appendfsync, unsafe, server, stages):
    """The process alone is killed: what it has handed to the operating system is not lost."""
    server.keep_data(appendfsync)
    stage = stages("valkey", TEST_TASKS_VALKEY=server.url)
    producer = Producer()
    producer.start()
    began = time.monotonic()
    eventually(lambda: time.monotonic() > began + unsafe + 1, "it has enqueued for a while")
    killed = time.monotonic()
    server.end(signal.SIGKILL)
    producer.join()
    server.start()

    safe = {key for key, at in producer.acknowledged.items() if at < killed - unsafe}
    assert len(safe) > 50, "VACUOUS: nothing was at stake"
    stage.worker()
    stage.until_empty()
    counts = stage.ledger.counts()
    assert safe <= counts.keys()
    assert len(counts.keys() - producer.acknowledged.keys()) <= 1  # the one whose answer was lost
    assert set(counts.values()) == {1}
    assert stage.failed() == {}


@pytest.fixture
def replica(server):
    with own_valkey() as replica:
        yield replica


@pytest.fixture
def cable(server, replica):
    """Give the line over which the replica follows the server."""
    cable = Proxy(server.port)
    server.configure(**{"repl-diskless-sync-delay": 0})
    with replica.client() as client:
        client.replicaof("127.0.0.1", cable.port)
        eventually(lambda: client.info("replication")["master_link_status"] == "up", "the replica has it all")
    yield cable
    cable.close()


@pytest.fixture
def line(server):
    """Give the line that leads to the primary, whichever that is."""
    line = Proxy(server.port)
    yield line
    line.close()


@pytest.fixture
def stage(line, stages, settings):
    queues = ["default", "mail", "images"]
    settings(VTASKS_QUEUES=queues)
    stage = stages("valkey", TEST_TASKS_VALKEY=line.url, VTASKS_LEASE="30", VTASKS_QUEUES=",".join(queues))
    yield stage
    stage.stop()


def promote(server, replica, line):
    server.end(signal.SIGKILL)
    eventually(lambda: line.connections == 0, "the connections of the line have ended too")
    with replica.client() as client:
        client.replicaof("NO", "ONE")
    line.target = replica.port


def replicate(server):
    """Let the replica have all that the server has: WAIT is only about what its own connection has written."""
    with server.client() as client:
        client.set("test", 1, px=1)
        assert client.wait(1, 5000) == 1


def test_of_what_a_promoted_replica_has_received_nothing_is_lost_and_work_goes_on(server, replica, cable, line, stage):
    held = tasks.ahold.using(unique=True)
    mail, images = (tasks.note.using(queue_name=queue) for queue in ("mail", "images"))
    # The replica learns of these …
    held.enqueue("held")
    worker = stage.worker("--queue", "default", "--concurrency", "4")
    stage.ledger.wait_for("held")
    tasks.note.enqueue("before")
    stage.ledger.wait_for("before")
    images.enqueue("ended unnoticed")
    for number in range(20):
        mail.enqueue(f"waiting{number}")
    eventually(lambda: stage.running() == 1, "what ran is settled")
    replicate(server)
    # … and of these it does not.
    cable.go_dead()
    assert stage.start("--queue", "images", "--burst").exit_code() == 0
    mail.using(unique=True).enqueue("lost")
    tasks.ahold.enqueue("running")
    stage.ledger.wait_for("running", "ended unnoticed")

    promote(server, replica, line)

    tasks.note.enqueue("after")
    stage.ledger.wait_for("after")
    assert held.enqueue("held") is None
    stage.ledger.open("held", "running")
    stage.ledger.wait_for("held-end", "running-end")
    worker.until_it_says("was no longer this worker's when it ended")
    stage.worker("--queue", "mail", "--queue", "images")
    stage.until_empty()
    once = ("held", "held-end", "running", "running-end", "before", "after", *(f"waiting{n}" for n in range(20)))
    assert stage.ledger.counts() == dict.fromkeys(once, 1) | {"ended unnoticed": 2}
    assert mail.using(unique=True).enqueue("lost") is not None
    assert held.enqueue("held") is not None
    stage.ledger.wait_for("lost")
    stage.ledger.wait_for("held-end", times=2)
    stage.until_empty()
    assert stage.failed() == {}
    assert worker.is_running
    assert "had run out" not in worker.log
    with valkey.Valkey.from_url(replica.url) as client:
        assert client.keys("*:flight:*") == client.keys("*:lock:*") == []
