"""Valkey behind a line that is slow, flaps or lies dead: every call ends in time, and a worker goes on by itself."""

import asyncio
import os
import signal
import time

import pytest
import valkey
from django.tasks import task_backends
from django.test import override_settings

from django_vtasks import wire
from django_vtasks.backends.valkey import ValkeyTaskBackend
from django_vtasks.brokers.valkey.connector import DEADLINE
from django_vtasks.errors import BrokerUnavailable, PayloadTooLarge
from tests import databases
from tests.contract.threads import aside
from tests.integration.probes import eventually
from tests.integration.proxies import Proxy
from tests.integration.stores import VALKEY
from tests.integration.valkeys import own_valkey
from tests.workapp import tasks

COUNT = 300
FAILS_WITHIN = 5.0
GOES_ON_WITHIN = 20.0
"""Seconds after which a worker has found out about each of the connections that it had on a dead line."""
LEASE = 6.0
DOWN = 0.4
FAILURES = 4
"""Of one activity, at most, while the line is down so long: the pauses between four take 0.35 s at least."""
LOOKS = 4
"""What a worker of one actor needs its server for: it claims, settles, renews its lease, looks at the queues."""

SIX_FAILURES = 1.5
"""Seconds that the pauses between six failures take together at least."""

DNS = """
import os, pathlib, socket
import uvloop

hosts = pathlib.Path(os.environ["TEST_HOSTS"])

def address(name):
    if name != "valkey.test":
        return name
    if not hosts.exists():
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return "127.0.0.1"

def getaddrinfo(host, *args, usual=socket.getaddrinfo, **kwargs):
    return usual(address(host), *args, **kwargs)

async def create_connection(self, factory, host=None, *args, usual=uvloop.Loop.create_connection, **kwargs):
    return await usual(self, factory, address(host), *args, **kwargs)

socket.getaddrinfo = getaddrinfo
uvloop.Loop.create_connection = create_connection
"""
"""Put before all that a worker does: what knows the address of the server, and may be away."""


@pytest.fixture
def server():
    databases.require_server("valkey")
    with own_valkey() as server:
        yield server


@pytest.fixture
def line(server):
    line = Proxy(server.port)
    yield line
    line.close()


@pytest.fixture
def stage(server, line, stages):
    """Give a stage whose workers are at the far end of the line, while the test is at the server."""
    stage = stages("valkey", TEST_TASKS_VALKEY=server.url)
    stage.environment |= {"TEST_TASKS_VALKEY": line.url, "VTASKS_LEASE": "30"}
    yield stage
    stage.stop()


def enqueue_some(stage, count=COUNT, seconds=0.02):
    stage.enqueue_many([((tasks.work, tasks.awork)[n % 2], (f"t{n}", seconds), {}) for n in range(count)])


def some_have_run(stage, more_than=50, within=GOES_ON_WITHIN):
    eventually(lambda: stage.ledger.counts().total() > more_than, f"more than {more_than} have run", within)


def assert_each_ran_once(stage, count=COUNT, within=40.0):
    stage.until_empty(within)
    assert stage.ledger.counts() == {f"t{number}": 1 for number in range(count)}
    assert stage.failed() == {}


def pass_time(seconds):
    began = time.monotonic()
    eventually(lambda: time.monotonic() > began + seconds, "time has passed", seconds + 1)


# Dead ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["enqueue", "aenqueue"])
async def test_over_a_dead_line_every_enqueue_fails_in_time_and_over_a_revived_one_none(way, server, line, stage):
    async def enqueue(key):
        await (tasks.note.aenqueue(key) if way == "aenqueue" else aside(tasks.note.enqueue, key))

    async def assert_fails(key):
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="did not answer in time"):
            await enqueue(key)
        assert time.monotonic() - began < FAILS_WITHIN

    with override_settings(TASKS={"default": {"BACKEND": VALKEY, "OPTIONS": {"BROKER_URL": line.url}}}):
        await enqueue("before")
        assert line.go_dead() >= 1
        await asyncio.gather(*map(assert_fails, ("first", "also first", "another")))  # on the connection that is there
        await assert_fails("second")  # on a new one
        line.revive()
        await enqueue("after")
        backend = task_backends["default"]
        assert isinstance(backend, ValkeyTaskBackend)
        await backend.broker.aclose()

    with valkey.Valkey.from_url(server.url) as client:
        assert client.llen("{vt}:waiting:default") == 2


async def test_over_a_dead_line_what_is_too_large_says_so_and_tells_nobody_else(line):
    with override_settings(TASKS={"default": {"BACKEND": VALKEY, "OPTIONS": {"BROKER_URL": line.url}}}):
        await tasks.note.aenqueue("before")
        assert line.go_dead() >= 1
        too_large = "x" * (wire.MAX_BYTES + 1)
        on_its_way, gathered, impossible = await asyncio.gather(
            *map(tasks.note.aenqueue, ("first", "second", too_large)), return_exceptions=True
        )
        backend = task_backends["default"]
        assert isinstance(backend, ValkeyTaskBackend)
        await backend.broker.aclose()

    assert isinstance(on_its_way, BrokerUnavailable)
    assert isinstance(gathered, BrokerUnavailable)
    assert isinstance(impossible, PayloadTooLarge)


@pytest.mark.parametrize("how", ["silence", "silence and a restart", "heard and not answered"])
def test_a_busy_worker_on_a_dead_line_notices_in_time_and_goes_on_when_it_is_back(how, server, line, stage):
    server.keep_data()
    enqueue_some(stage)
    worker = stage.worker("--concurrency", "8")
    some_have_run(stage)
    assert line.go_dead(is_heard=how == "heard and not answered") >= 2
    died = time.monotonic()
    worker.until_it_says("did not answer in time")
    assert time.monotonic() - died <= DEADLINE + 2
    if "restart" in how:
        server.end(signal.SIGKILL)
        server.start()
    worker.until_it_says("Still cannot")
    ran = stage.ledger.counts().total()
    assert ran < COUNT, "VACUOUS: all had run"
    line.revive()

    some_have_run(stage, more_than=ran + 20)
    assert_each_ran_once(stage)
    assert worker.is_running
    assert "had run out" not in worker.log


@pytest.mark.parametrize("also", ["", "a restart"])
def test_an_idle_worker_whose_line_died_unnoticed_takes_tasks_again(also, server, line, stage):
    server.keep_data()
    worker = stage.worker()
    tasks.note.enqueue("before")
    stage.ledger.wait_for("before")
    stage.until_empty()
    assert line.go_dead() >= 2
    if also:
        server.end(signal.SIGKILL)
        server.start()
    line.revive()
    tasks.note.enqueue("after")

    stage.ledger.wait_for("after", within=GOES_ON_WITHIN)
    worker.until_it_says("did not answer in time")
    stage.until_empty(40)
    assert stage.ledger.counts() == {"before": 1, "after": 1}
    assert worker.is_running


# Slow ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("latency", "rate"), [(0.25, None), (0.0, 1000)], ids=["half a second", "1 kB per second"])
def test_a_worker_on_a_slow_line_keeps_its_lease_and_runs_each_task_once(latency, rate, server, line, stage):
    """A neighbour that is close to the server would take over at once from one that seems dead."""
    count = 60
    stage.environment["VTASKS_LEASE"] = str(LEASE)
    tasks.ahold.enqueue("held")
    slow = stage.worker("--id", "slow", "--concurrency", "4")
    stage.ledger.wait_for("held")
    enqueue_some(stage, count)
    some_have_run(stage, more_than=10)
    line.latency, line.rate = latency, rate
    assert stage.ledger.counts().total() < count, "VACUOUS: all had run"
    near = stage.worker("--queue", "mail", TEST_TASKS_VALKEY=server.url, VTASKS_QUEUES="mail")
    with valkey.Valkey.from_url(line.url) as client:
        began = time.monotonic()
        client.echo("x" * 500)
        assert time.monotonic() - began >= 0.5, "VACUOUS: the line is fast"

    pass_time(2 * LEASE)
    stage.ledger.open("held")
    stage.until_empty(40)
    assert stage.ledger.counts() == {f"t{number}": 1 for number in range(count)} | {"held": 1, "held-end": 1}
    assert "renew the lease" not in slow.log
    assert "had run out" not in slow.log
    assert "Took back" not in near.log
    assert stage.failed() == {}
    assert slow.is_running


# Flapping --------------------------------------------------------------------------------------------------------


def test_a_line_that_flaps_loses_nothing_and_does_not_flood_the_log(line, stage):
    flaps = 12
    count = 1200
    enqueue_some(stage, count)
    worker = stage.worker("--concurrency", "8")
    for _ in range(flaps):
        some_have_run(stage, more_than=stage.ledger.counts().total() + 10)
        line.is_open = False
        assert line.cut() >= 1, "VACUOUS: there was nothing to cut"
        pass_time(DOWN)
        line.is_open = True
    assert stage.ledger.counts().total() < count, "VACUOUS: all had run"
    assert flaps <= len(worker.log_lines("Still cannot")) <= flaps * LOOKS * FAILURES
    assert len(worker.log_lines("ERROR")) <= flaps * LOOKS

    assert_each_ran_once(stage, count)
    assert worker.is_running
    assert "had run out" not in worker.log


# Names -----------------------------------------------------------------------------------------------------------


def test_a_worker_whose_server_has_no_address_for_a_while_backs_off_and_reconnects(line, stage, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.touch()
    (tmp_path / "sitecustomize.py").write_text(DNS)
    stage.environment |= {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
        "TEST_HOSTS": str(hosts),
        "TEST_TASKS_VALKEY": f"valkey://valkey.test:{line.port}/0",
    }
    enqueue_some(stage)
    worker = stage.worker("--concurrency", "8")
    some_have_run(stage)
    hosts.unlink()
    began = time.monotonic()
    assert line.cut() >= 1
    worker.until_it_says("(6 failures): Valkey at valkey.test")
    assert time.monotonic() - began > SIX_FAILURES
    ran = stage.ledger.counts().total()
    assert ran < COUNT, "VACUOUS: all had run"
    hosts.touch()

    some_have_run(stage, more_than=ran + 8)
    assert_each_ran_once(stage)
    assert worker.log_lines("name resolution")
    assert worker.is_running
    assert "had run out" not in worker.log
