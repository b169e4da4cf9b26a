"""What a broker makes of its connections: slow lines, large answers, waits that somebody ends, forks."""

import asyncio
import contextlib
import gc
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from django_vtasks.brokers.base import Ack, Claim
from django_vtasks.brokers.valkey import ValkeyBroker, lines, pace, spin
from django_vtasks.brokers.valkey.connector import Connector
from django_vtasks.brokers.valkey.keys import Keys
from django_vtasks.brokers.valkey.link import Link
from django_vtasks.brokers.valkey.request import command
from django_vtasks.errors import BrokerUnavailable
from django_vtasks.worker.lease import EVERY, LeaseKeeper
from tests import databases
from tests.contract.given import A_LEASE, ALICE, a_task, tasks
from tests.contract.steps import AT_ONCE, SOON, crash, idle_claim, ids, ids_of, suspect, take
from tests.contract.threads import aside, at_once
from tests.integration.probes import eventually
from tests.integration.proxies import Proxy
from tests.integration.valkeys import own_valkey

PREFIX = "{vt}"
KILO = 1000
FAST = 10_000 * KILO
SHORT_DEADLINE = 0.5

FORKING = f"""
import json, os, sys, valkey
from django_vtasks.brokers.valkey import ValkeyBroker

broker = ValkeyBroker(sys.argv[1], prefix="{PREFIX}")
broker.queues()
child = os.fork()
broker.queues()
if child:
    os.waitpid(child, 0)
else:
    with valkey.Valkey.from_url(sys.argv[1]) as client:
        names = [one["name"] for one in client.client_list()]
    print(json.dumps([os.getppid(), os.getpid(), names]), flush=True)
    os._exit(0)
"""


@pytest.fixture
def server():
    databases.require_server("valkey")
    with own_valkey() as server:
        yield server


def has_blocked(server):
    """Tell whether a client of the server waits for an element."""
    with server.client() as client:
        return client.info("clients")["blocked_clients"] > 0


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture
def line(server):
    line = Proxy(server.port)
    line.rate = FAST  # for small pieces from the beginning
    yield line
    line.close()


@pytest.fixture
async def broker(server):
    """Give a broker beside the server."""
    broker = ValkeyBroker(server.url, prefix=PREFIX)
    await aside(broker.renew, ALICE.node, A_LEASE)
    yield broker
    await broker.aclose()


@pytest.fixture
async def far_broker(broker, line):
    """Give a broker at the far end of the line, whose connections are there."""
    far = ValkeyBroker(line.url, prefix=PREFIX)
    assert await take(far) == []
    await far.keep_only(ALICE, [])
    yield far
    line.rate = FAST
    await far.aclose()


@pytest.fixture
def impatient(monkeypatch):
    for module in ("link", "broker"):
        monkeypatch.setattr(f"django_vtasks.brokers.valkey.{module}.DEADLINE", SHORT_DEADLINE)


def of_size(size, count):
    """Return tasks of about so many bytes, which are not to be compressed beyond that."""
    return [a_task(os.urandom(size).hex()) for _ in range(count)]


def connections(client):
    return [one["name"] for one in client.client_list() if one["name"].startswith("vtasks-")]


def blocked(client):
    """Return the ids of the clients that wait for a bell."""
    return [one["id"] for one in client.client_list() if one["cmd"] == "blpop" and "b" in one["flags"]]


@pytest.mark.usefixtures("impatient")
async def test_an_answer_that_is_still_arriving_is_not_overdue(broker, far_broker, line):
    sent = of_size(4 * KILO, 10)
    await broker.apush(sent)
    line.rate = 20 * KILO

    began = asyncio.get_running_loop().time()
    claims = await take(far_broker)

    assert ids(claims) == ids_of(sent)
    assert asyncio.get_running_loop().time() - began > 2 * SHORT_DEADLINE + 0.5, "VACUOUS: the line is fast"


@pytest.mark.usefixtures("impatient")
async def test_an_answer_that_has_begun_and_goes_on_no_more_is_overdue(broker, far_broker, line, monkeypatch):
    monkeypatch.setattr("django_vtasks.brokers.valkey.pipe.SILENCE", SHORT_DEADLINE)
    await broker.apush(of_size(40 * KILO, 10))
    line.rate = 20 * KILO
    claiming = asyncio.create_task(take(far_broker))
    await asyncio.wait({claiming}, timeout=1.5)
    assert not claiming.done()

    line.go_dead()

    with pytest.raises(BrokerUnavailable, match="did not answer in time"):
        await asyncio.wait_for(claiming, AT_ONCE)
    line.revive()


@pytest.mark.usefixtures("impatient")
async def test_what_a_slow_line_cannot_carry_comes_in_smaller_claims(broker, far_broker, line, monkeypatch):
    monkeypatch.setattr(pace, "BYTES", 16 * KILO)
    monkeypatch.setattr(pace, "PATIENCE", 0.1)
    sent = of_size(5 * KILO, 8)
    await broker.apush(sent)
    line.rate = 10 * KILO
    sizes: list[int] = []
    taken: list[Claim] = []
    overdue = 0

    async with asyncio.timeout(SOON):
        while len(taken) < len(sent):
            try:
                claims = await take(far_broker)
            except BrokerUnavailable:
                overdue += 1
                await far_broker.keep_only(ALICE, [claim.receipt for claim in taken])
            else:
                taken += claims
                sizes.append(len(claims))

    assert overdue, "VACUOUS: the line carries it all"
    assert sorted(ids(taken)) == sorted(ids_of(sent))

    line.rate = FAST
    await broker.apush(of_size(5 * KILO, 16))
    while claims := await take(far_broker):
        sizes.append(len(claims))
    assert max(sizes) > sizes[0]


@pytest.mark.parametrize("suspects", [False, True], ids=["new", "suspects"])
async def test_a_claim_brings_one_task_of_any_size_and_a_mebibyte_of_others(broker, suspects):
    large, others = of_size(3000 * KILO, 1), of_size(400 * KILO, 4)
    sent = large + others
    for task in sent:
        await (suspect(broker, [task]) if suspects else broker.apush([task]))

    first, second = await take(broker, suspects=suspects), await take(broker, suspects=suspects)

    assert [len(first), len(second)] == [3, 2]
    assert ids(first + second) == ids_of(sent)


async def test_nobody_waits_behind_a_large_claim(broker, far_broker, line, client):
    await broker.apush(of_size(100 * KILO, 10))
    line.rate = 20 * KILO
    claiming = asyncio.create_task(take(far_broker))
    await asyncio.wait({claiming}, timeout=0.5)

    assert await asyncio.wait_for(asyncio.shield(far_broker.apush(tasks(1))), AT_ONCE) == [True]
    assert await asyncio.wait_for(far_broker.keep_only(ALICE, []), AT_ONCE) == 10

    assert not claiming.done(), "VACUOUS: the line is fast"
    claiming.cancel()
    line.cut()


async def test_a_look_for_lost_tasks_that_arrives_late_leaves_what_was_claimed_after_it(
    broker, line, impatient, monkeypatch
):
    """The kernel sends again what was lost on the way, also when nobody waits for an answer any more."""
    far = ValkeyBroker(line.url, prefix=PREFIX)
    await far.keep_only(ALICE, [])
    await broker.apush(tasks(1))
    [lost] = await take(broker)
    call = far._link.acall

    async def over_a_line_that_loses_packets(name, *arguments):
        line.hold()
        return await call(name, *arguments)

    monkeypatch.setattr(far._link, "acall", over_a_line_that_loses_packets)
    with pytest.raises(BrokerUnavailable):
        await far.keep_only(ALICE, [])
    monkeypatch.setattr(far._link, "acall", call)
    await broker.apush(tasks(2))
    claims = await take(far)
    line.release()
    await aside(eventually, lambda: broker.depth("mail").waiting > 0, "the look has arrived")

    assert await far.settle(ALICE, [Ack(claim) for claim in (lost, *claims)]) == [False, True, True]
    await far.aclose()


async def test_one_connection_that_hangs_does_not_cost_a_short_lease(broker, line):
    """A call of the thread that renews may not take all of what the lease has left."""
    far, ttl = ValkeyBroker(line.url, prefix=PREFIX), 4.0
    renewed, taken_over = threading.Semaphore(0), threading.Event()
    keeper = LeaseKeeper(far, "far", ttl, renewed.release)
    watcher = LeaseKeeper(broker, "near", ttl, lambda: None, taken_over.set)
    keeper.start()
    watcher.start()
    try:
        assert await asyncio.to_thread(renewed.acquire, timeout=SOON)
        await broker.apush(tasks(1))
        assert await take(broker, owner=replace(ALICE, node="far"))
        for _ in range(3):
            line.hold()
            for _ in range(round(1 / EVERY)):
                assert await asyncio.to_thread(renewed.acquire, timeout=SOON)
            line.release()
    finally:
        await asyncio.to_thread(keeper.stop)
        await asyncio.to_thread(watcher.stop)
        far.close()

    assert not taken_over.is_set()


async def test_an_actor_has_three_connections_at_most(broker, client):
    await broker.apush(tasks(1))
    await take(broker)
    idle = await idle_claim(broker)
    await broker.keep_only(ALICE, [])

    assert sorted(name.split("-")[1] for name in connections(client)) == ["async", "sync", "wait"]
    idle.cancel()


async def test_what_the_server_has_claimed_behind_a_wait_that_it_ended_is_used(broker, client):
    idle = await idle_claim(broker)
    silent = a_task()
    await aside(push_without_bell, client, silent)

    [waiting] = blocked(client)
    assert client.client_unblock(waiting, error=True)

    assert ids(await asyncio.wait_for(idle, AT_ONCE)) == [silent.id]


async def test_a_server_that_refuses_to_wait_is_not_asked_again_and_again(server, broker):
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "halved", "on", "nopass", "~*", "+@all", "-blpop")
    halved = ValkeyBroker(server.url.replace("//", "//halved:any@"), prefix=PREFIX)

    with pytest.raises(BrokerUnavailable, match="does not permit this user what is needed"):
        await asyncio.wait_for(halved.claim(ALICE, "mail", 1, wait=60.0), AT_ONCE)

    await halved.aclose()


async def test_names_of_owners_that_are_taken_back_are_forgotten_at_once(broker, client):
    keys = Keys(PREFIX)
    await broker.apush(tasks(2))
    await take(broker, 1)
    await crash(broker)
    assert not client.exists(keys.holders(ALICE.node))

    await take(broker, 1)
    client.zadd(keys.nodes, {ALICE.node: 1})
    await aside(broker.reclaim_expired, "another", "its lease ran out")
    assert not client.exists(keys.holders(ALICE.node))
    assert not client.sismember(keys.holding, ALICE.node)


def test_the_connections_of_a_child_tell_its_number(server):
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, server.url], capture_output=True, check=True, timeout=60
    )

    parent, child, names = json.loads(told.stdout)
    assert sorted(name for name in names if name) == sorted(f"vtasks-sync-{pid}" for pid in (parent, child))


def push_without_bell(client, task):
    """Enqueue as a producer does that only pushes; a bell rings for nobody then."""
    from django_vtasks import wire

    client.lpush(Keys(PREFIX).waiting(task.queue), wire.encode(task))


def test_while_a_thread_stays_awake_for_its_answer_another_sleeps(server, monkeypatch):
    pushing = ValkeyBroker(server.url, prefix=PREFIX)
    is_answered, awake = threading.Event(), []

    def stay_awake(line):
        awake.append(line)
        assert is_answered.wait(SOON), "the other stays awake as well"

    def push(_):
        accepted = pushing.push([a_task()])
        is_answered.set()
        return accepted

    monkeypatch.setattr(lines._Line, "_stay_awake", stay_awake)
    monkeypatch.setattr(spin.Trials, "begin", lambda _: True)

    assert at_once(push, 2) == [[True]] * 2
    assert awake
    pushing.close()


def test_what_is_to_be_done_meanwhile_is_done_behind_the_request(server, client):
    broker = ValkeyBroker(server.url, prefix=PREFIX)
    seen = []

    def look():
        eventually(lambda: client.llen(Keys(PREFIX).waiting("mail")), "The server has the tasks")
        seen.append(True)

    assert broker.push([a_task(), a_task()], look) == [True, True]
    assert seen == [True]
    broker.close()


def test_a_call_that_finds_all_connections_in_use_waits_for_one_and_not_for_ever(server, client, monkeypatch):
    monkeypatch.setattr(lines, "CONNECTIONS", 2)
    monkeypatch.setattr(lines, "FREE_WITHIN", 0.2)
    broker = ValkeyBroker(server.url, prefix=PREFIX)
    is_refused, refused = threading.Event(), []

    def push(number):
        if number < 2:
            return broker.push([a_task()], lambda: is_refused.wait(SOON))
        eventually(lambda: client.llen(Keys(PREFIX).waiting("mail")) == 2, "both connections are in use")
        with pytest.raises(BrokerUnavailable, match="all 2 connections of this process are in use") as raised:
            broker.push([a_task()])
        refused.append(raised)
        monkeypatch.setattr(lines, "FREE_WITHIN", SOON)
        is_refused.set()
        return broker.push([a_task()])

    assert at_once(push, 3) == [[True]] * 3
    assert refused
    assert len(connections(client)) == 2
    broker.close()


class TestWaysThatAreGone:
    def test_a_thread_learns_once_that_the_way_to_the_server_is_gone(self, line, monkeypatch):
        monkeypatch.setattr("django_vtasks.brokers.valkey.lines.DEADLINE", SHORT_DEADLINE)
        broker = ValkeyBroker(line.url, prefix=PREFIX)
        line.latency = 0.05
        assert at_once(lambda _: broker.push([a_task()]), 4) == [[True]] * 4
        line.latency = 0.0
        assert line.go_dead() >= 4, "VACUOUS: there were not several connections"
        line.revive()

        with pytest.raises(BrokerUnavailable):
            broker.push([a_task()])
        assert broker.push([a_task()]) == [True]
        broker.close()

    async def test_a_connection_that_nobody_has_used_for_long_is_replaced(self, line, monkeypatch):
        broker = ValkeyBroker(line.url, prefix=PREFIX)
        assert await broker.apush([a_task()]) == [True]
        assert await aside(broker.push, [a_task()]) == [True]
        assert line.go_dead() >= 2
        line.revive()
        for module in ("lines", "pipe"):
            monkeypatch.setattr(f"django_vtasks.brokers.valkey.{module}.IDLE", 0.0)

        assert await broker.apush([a_task()]) == [True]
        assert await aside(broker.push, [a_task()]) == [True]
        await broker.aclose()

    async def test_when_a_server_has_become_a_replica_the_address_is_tried_anew(self, server, client, line):
        broker = ValkeyBroker(line.url, prefix=PREFIX)
        assert await broker.apush([a_task()]) == [True]
        assert await aside(broker.push, [a_task()]) == [True]
        with own_valkey() as successor:
            client.replicaof("127.0.0.1", str(successor.port))
            line.target = successor.port

            for push in (broker.apush, lambda some: aside(broker.push, some)):
                with contextlib.suppress(BrokerUnavailable):  # the first to ask learns of it
                    await push([a_task()])
                assert await push([a_task()]) == [True]
            await broker.aclose()

    async def test_the_answer_to_a_push_arrives_though_the_connections_have_been_replaced_meanwhile(self, server, line):
        broker = ValkeyBroker(line.url, prefix=PREFIX)
        assert await broker.apush([a_task()]) == [True]
        line.latency = 0.1
        pushing = asyncio.ensure_future(broker.apush([a_task()]))
        await asyncio.wait({pushing}, timeout=0.05)
        broker._link._leave(broker._link._term)
        await asyncio.wait_for(broker._link.asend(command("PING")), SOON)
        gc.collect()

        assert await asyncio.wait_for(pushing, SOON) == [True]
        await broker.aclose()


class TestNoConnectionOutlivesItsLoop:
    """A socket that is dropped open raises here, as all tests treat warnings, when the garbage is collected."""

    def test_not_one_where_an_answer_is_still_due_to_a_call_that_was_cancelled(self, server):
        async def cancel_a_call(link):
            call = asyncio.create_task(link.asend(command("BLPOP", "nothing", "0"), patience=1.0))
            await aside(eventually, lambda: has_blocked(server), "the call waits")
            call.cancel()
            await asyncio.wait({call}, timeout=SOON)
            await link.aclose()

        asyncio.run(cancel_a_call(Link(Connector(server.url, PREFIX))))
        gc.collect()

        eventually(lambda: not has_blocked(server), "the server has heard of it")

    def test_not_one_that_is_being_made_when_the_others_are_closed(self, server, line):
        async def close_while_connecting(link):
            call = asyncio.create_task(link.asend(command("PING"), patience=1.0))
            await aside(eventually, lambda: line.connections == 1, "it connects")
            await link.aclose()
            with pytest.raises(BrokerUnavailable, match="no longer used"):
                await asyncio.wait_for(call, SOON)

        line.latency = 0.2
        asyncio.run(close_while_connecting(Link(Connector(line.url, PREFIX))))
        gc.collect()

        line.latency = 0.0
        eventually(lambda: not line.connections, "the line has heard of it")


async def test_what_the_server_refuses_of_one_queue_is_nothing_to_pushes_to_others_in_the_same_turn(client, broker):
    client.set(Keys(PREFIX).waiting("spoilt"), "no list")
    await broker.apush([a_task()])

    first, *others = await asyncio.gather(
        broker.apush([a_task(queue="spoilt")]),
        *(broker.apush([a_task()]) for _ in range(3)),
        return_exceptions=True,
    )

    assert isinstance(first, BrokerUnavailable)
    assert "WRONGTYPE" in str(first)
    assert others == [[True]] * 3
