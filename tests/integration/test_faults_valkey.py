"""Valkey that restarts, freezes, forgets, is full or is fed garbage: nothing that it has kept is lost."""

import asyncio
import os
import signal
import sys
import time
from typing import Any

import pytest
import valkey

from django_vtasks import wire
from django_vtasks.brokers.base import Ack, Owner
from django_vtasks.brokers.valkey import ValkeyBroker
from django_vtasks.brokers.valkey.connector import DEADLINE
from django_vtasks.brokers.valkey.keys import Keys
from django_vtasks.envelope import Envelope
from django_vtasks.errors import BrokerUnavailable
from tests import databases
from tests.contract.unreadable import UNREADABLE
from tests.integration.probes import eventually
from tests.integration.valkeys import own_valkey
from tests.workapp import tasks

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COUNT = 300
GOES_ON_WITHIN = 10.0
AT_ONCE = 3.0
"""Seconds; on an idle machine it is a fifth of one."""
WAITING = Keys("{vt}").waiting("default")

on_valkey = pytest.mark.parametrize("alias", ["valkey"], indirect=True, ids=["valkey"])


@pytest.fixture
def own_server():
    databases.require_server("valkey")
    with own_valkey() as server:
        yield server


@pytest.fixture
def own(own_server, stages):
    """Give a stage on a server of the test's own."""
    stage = stages("valkey", TEST_TASKS_VALKEY=own_server.url)
    yield stage
    stage.stop()


def enqueue_some(stage):
    calls: list[Any] = [((tasks.work, tasks.awork)[number % 2], (f"t{number}", 0.02), {}) for number in range(COUNT)]
    stage.enqueue_many(calls)


def some_have_run(stage, more_than=50):
    eventually(lambda: stage.ledger.counts().total() > more_than, "some have run", GOES_ON_WITHIN)


def assert_each_ran_once(stage, within=20.0):
    stage.until_empty(within)
    counts = stage.ledger.counts()
    assert {f"t{number}": counts[f"t{number}"] for number in range(COUNT)} == {f"t{n}": 1 for n in range(COUNT)}
    assert stage.failed() == {}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_of_a_server_that_keeps_its_data_loses_nothing(own, own_server, how):
    own_server.keep_data()
    tasks.ahold.enqueue("held")
    enqueue_some(own)
    worker = own.worker("--concurrency", "8")
    some_have_run(own)
    own_server.end(how)
    worker.until_it_says("trying again until it works")
    own_server.start()
    ran = own.ledger.counts().total()
    assert ran < COUNT, "VACUOUS: all had run"

    some_have_run(own, more_than=ran + 8)
    own.ledger.open("held")
    assert_each_ran_once(own)
    assert own.ledger.counts()["held"] == own.ledger.counts()["held-end"] == 1
    assert worker.is_running


def test_a_worker_comes_up_when_its_server_does_and_again_when_that_restarts(own, own_server):
    own_server.end()
    worker = own.start()
    worker.until_it_says("trying again until it works")
    worker.until_it_says("Still cannot", times=2)
    own_server.start()
    tasks.note.enqueue("first")

    own.ledger.wait_for("first", within=GOES_ON_WITHIN)
    own.until_empty()
    # Now it is idle, and waits for news on a connection that ends.
    own_server.end()
    own_server.start()
    tasks.note.enqueue("second")
    own.ledger.wait_for("second", within=GOES_ON_WITHIN)
    own.until_empty()
    assert worker.is_running


def test_a_frozen_server_costs_a_deadline_and_nothing_else(own, own_server):
    enqueue_some(own)
    worker = own.worker("--concurrency", "8", VTASKS_LEASE="30")
    some_have_run(own)
    own_server.freeze()
    frozen = time.monotonic()
    worker.until_it_says("did not answer in time")
    assert time.monotonic() - frozen <= DEADLINE + 2
    worker.until_it_says("Still cannot")
    own_server.thaw()
    ran = own.ledger.counts().total()
    assert ran < COUNT, "VACUOUS: all had run"

    some_have_run(own, more_than=ran + 8)
    # A claim that the server obeyed late is found with the next look at the books.
    assert_each_ran_once(own, within=30)
    assert worker.is_running


class TestFlushall:
    @on_valkey
    def test_a_running_worker_goes_on_with_what_comes_next(self, stage, valkey_server):
        tasks.ahold.enqueue("held")
        worker = stage.worker("--id", "alpha")
        stage.ledger.wait_for("held")
        flush(valkey_server)
        assert stage.broker.nodes() == {}
        tasks.note.enqueue("after")
        tasks.ahold.enqueue("also held")
        tasks.fail.enqueue("ValueError")

        stage.ledger.wait_for("after", "also held", within=GOES_ON_WITHIN)
        assert [node.startswith("alpha") for node in stage.broker.nodes()] == [True]
        stage.ledger.open("held", "also held")
        worker.until_it_says("was no longer this worker's when it ended")
        stage.until_empty()
        assert len(stage.failed()) == 1
        assert worker.is_running

    @on_valkey
    def test_another_worker_still_takes_the_tasks_of_one_that_vanishes(self, stage, valkey_server):
        stage.environment["VTASKS_LEASE"] = "2"
        first = stage.worker("--id", "alpha")
        stage.worker("--id", "beta", "--concurrency", "1")
        flush(valkey_server)
        eventually(lambda: len(stage.broker.nodes()) == 2, "both have a lease again")
        keys = [f"held{number}" for number in range(4)]
        for key in keys:
            tasks.hold.enqueue(key)
        stage.ledger.wait_for(*keys)
        lost = [key for key in keys if stage.ledger.read(key)[0]["worker"].startswith("alpha")]
        assert lost, "VACUOUS: the other one runs it all"
        first.kill()
        stage.ledger.open(*keys)

        stage.ledger.wait_for(*lost, times=2, within=GOES_ON_WITHIN)
        stage.until_empty()
        assert stage.failed() == {}

    async def test_what_was_claimed_before_cannot_be_settled_in_place_of_what_was_claimed_after(self, valkey_url):
        """The server begins to count anew; a receipt from before must not be one of those that it gives now."""
        broker = ValkeyBroker(valkey_url, prefix="{vt}")
        owner = Owner("alpha", "default#1")

        async def claimed(key):
            await asyncio.to_thread(broker.renew, owner.node, 60.0)
            await broker.apush([envelope(key)])
            [claim] = await broker.claim(owner, "default", 1)
            return claim

        before = await claimed("before")
        flush(valkey_url)
        after = await claimed("after")

        assert await broker.settle(owner, [Ack(before)]) == [False]
        assert await broker.settle(owner, [Ack(after)]) == [True]
        await broker.aclose()


def flush(url):
    with valkey.Valkey.from_url(url) as client:
        client.flushall()


def envelope(key, **fields):
    return Envelope(
        **{"id": key, "task": "tests.workapp.tasks.note", "queue": "default", "args": [key], "kwargs": {}}
        | {"enqueued_at": time.time()}
        | fields
    )


@on_valkey
def test_the_tasks_of_an_actor_that_was_killed_run_again_at_once(stage):
    stage.environment["VTASKS_LEASE"] = "30"
    worker = stage.worker("--concurrency", "2")
    for task in (tasks.hold, tasks.ahold):
        task.enqueue(task.func.__name__)
    stage.ledger.wait_for("hold", "ahold")
    waiting = tasks.note_context.enqueue("waiting")
    os.kill(worker.actors()["default#1"], signal.SIGKILL)
    died = time.monotonic()
    stage.ledger.open("hold", "ahold")

    stage.ledger.wait_for("hold-end", "ahold-end", "waiting")
    assert time.monotonic() - died < AT_ONCE
    stage.until_empty()
    for key in ("hold", "ahold"):
        assert [entry["attempt"] for entry in stage.ledger.read(key)] == [1, 2]
    assert [(entry["id"], entry["attempt"]) for entry in stage.ledger.read("waiting")] == [(waiting.id, 1)]
    assert stage.failed() == {}


def test_when_memory_is_full_an_enqueue_says_so_and_the_worker_makes_room(own, own_server):
    with own_server.client() as client:
        own_server.configure(maxmemory=client.info("memory")["used_memory"] + 4 * 1024 * 1024)
    accepted = 0

    def fill():
        nonlocal accepted
        while True:
            tasks.note.enqueue(f"n{accepted}", os.urandom(50_000).hex())
            accepted += 1

    with pytest.raises(BrokerUnavailable, match="has no memory left: raise maxmemory, or clear queues"):
        fill()
    assert accepted >= 10
    with pytest.raises(BrokerUnavailable, match="has no memory left"):
        asyncio.run(tasks.note.aenqueue("refused", os.urandom(50_000).hex()))
    worker = own.worker("--concurrency", "4")

    own.until_empty()
    assert own.ledger.counts() == {f"n{number}": 1 for number in range(accepted)}
    tasks.note.enqueue("after", os.urandom(50_000).hex())
    own.ledger.wait_for("after")
    assert worker.log_lines("ERROR") == []
    assert own.failed() == {}


BOMB = zstd.compress(b"[" + b"1," * (100 * 1024 * 1024) + b"1]")
GARBAGE = {
    **UNREADABLE,
    "half a header": b"1 abc 0 0",
    "a header alone": b"1 alone 0 0 - -\n",
    "a header of the future": b"2 future 0 0 - -\n" + wire.encode(envelope("future")),
    "a truncated entry": b"1 truncated 0 0 - -\n" + wire.encode(envelope("truncated"))[:-20],
    "a truncated payload": wire.encode(envelope("cut"))[:-20],
    "a truncated compressed payload": wire.encode(envelope("long", args=["x" * 100_000]))[:-5],
    "a bomb of nothing but numbers": BOMB,
    "an entry of a bomb": b"1 bomb 0 0 - -\n" + BOMB,
    "somebody else's id": b"1 mine 0 0 - -\n" + wire.encode(envelope("theirs")),
    "an id of two words": wire.encode(envelope("two words")),
    "a long id": wire.encode(envelope("x" * 65)),
}


@on_valkey
def test_garbage_in_a_queue_goes_to_the_failed_list_with_the_reason_and_the_rest_goes_on(stage, valkey_url):
    import valkey

    worker = stage.worker()
    pids = worker.actors()
    with valkey.Valkey.from_url(valkey_url) as client:
        for garbage in GARBAGE.values():
            client.lpush(WAITING, garbage)
        client.lpush(WAITING, wire.encode(envelope("bare")))
    tasks.note.enqueue("other")

    stage.ledger.wait_for("other", "bare")
    stage.until_empty()
    assert stage.ledger.counts() == {"other": 1, "bare": 1}
    failed = stage.broker.failed(1000)
    assert len(failed) == len(GARBAGE)
    for entry in failed:
        assert entry.queue == "default"
        assert entry.failure.exception.startswith("django_vtasks.errors.Payload"), entry
        assert "payload" in entry.failure.message.lower()
    assert {"alone", "truncated", "bomb", "mine"} <= {entry.id for entry in failed}
    assert worker.actors() == pids
