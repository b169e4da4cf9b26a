"""What a worker says of its Valkey before it starts."""

import signal

import pytest

from tests import servers
from tests.integration.valkeys import own_valkey


@pytest.fixture
def server():
    with own_valkey() as server:
        yield server


@pytest.fixture
def stage(server, stages):
    return stages("valkey", TEST_TASKS_VALKEY=server.url)


def test_a_worker_does_not_start_on_a_replica(server, stage):
    with server.client() as client:
        client.replicaof("127.0.0.1", servers.free_port())

    worker = stage.start()

    assert worker.exit_code() == 1
    assert "is a replica, which takes no tasks: BROKER_URL must name the primary." in worker.log


def test_a_worker_does_not_start_on_a_server_that_throws_tasks_away(server, stage):
    server.configure(**{"maxmemory-policy": "allkeys-lru", "maxmemory": "1gb"})

    worker = stage.start()

    assert worker.exit_code() == 1
    assert "deletes tasks when its memory is full (maxmemory-policy allkeys-lru)" in worker.log


def test_a_worker_says_what_its_server_may_cost_and_works(server, stage):
    server.configure(**{"maxmemory-policy": "volatile-lru"})

    worker = stage.worker().until_ready()

    assert len(worker.log_lines("deletes the locks of unique tasks")) == 1
    assert len(worker.log_lines("keeps its data in memory alone")) == 1


def test_a_worker_that_waits_for_its_server_can_be_stopped(server, stage):
    server.end()
    worker = stage.start()
    worker.until_it_says("Cannot reach the store of tasks")

    worker.send(signal.SIGTERM)

    assert worker.exit_code() == 0
