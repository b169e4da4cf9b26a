"""A Valkey cluster whose nodes change their parts, fall silent and die, under a broker that goes on."""

import asyncio
import contextlib
import socket
import threading
import time

import pytest
import valkey

from django_vtasks.brokers.base import Ack
from django_vtasks.brokers.valkey import ValkeyBroker
from django_vtasks.brokers.valkey.connector import DEADLINE
from django_vtasks.errors import BrokerUnavailable, ConfigError
from tests import clusters
from tests.contract.given import A_LEASE, ALICE, a_task, tasks
from tests.contract.steps import AT_ONCE, SOON, idle_claim, ids, ids_of, take
from tests.contract.threads import aside
from tests.integration.probes import eventually

PREFIX = "{vt}"
FAILOVER = 20.0
"""Seconds within which a replica has taken the place of its primary."""


WITHIN = 5.0
"""Seconds in which an enqueue ends, whatever has become of the server."""


@pytest.fixture(scope="module")
def whole_cluster():
    with clusters.running(PREFIX) as cluster:
        yield cluster


@pytest.fixture
def cluster(whole_cluster):
    """Give a cluster that is whole again after each test, though its nodes may have changed their parts."""
    whole_cluster.settle()
    whole_cluster.empty()
    return whole_cluster


@pytest.fixture
async def broker(cluster):
    broker = ValkeyBroker(cluster.stranger, prefix=PREFIX, is_cluster=True)
    await aside(broker.renew, ALICE.node, A_LEASE)
    yield broker
    await broker.aclose()


class Consumer:
    """Claims, idle most of the time, and acknowledges, whatever happens to the cluster."""

    def __init__(self, broker):
        self.done = []
        self.errors = []
        self._broker = broker

    async def run(self):
        while True:
            try:
                claims = await self._broker.claim(ALICE, "mail", 100, wait=60.0)
                await self._broker.settle(ALICE, [Ack(claim) for claim in claims])
            except BrokerUnavailable as error:
                self.errors.append(error)
                await asyncio.sleep(0.05)
            else:
                self.done += ids(claims)

    async def does(self, sent, within=SOON):
        await aside(eventually, lambda: set(ids_of(sent)) <= set(self.done), "the tasks are done", within)


@pytest.fixture
async def consumer(broker):
    consumer = Consumer(broker)
    running = asyncio.create_task(consumer.run())
    sent = tasks(1)
    await broker.apush(sent)
    await consumer.does(sent)
    yield consumer
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def push_when_possible(push):
    """Push one task after the other until a push succeeds; return its task and the errors of those before it."""
    errors = []
    deadline = time.monotonic() + FAILOVER
    while time.monotonic() < deadline:
        sent, began = [a_task()], time.monotonic()
        try:
            await push(sent)
        except BrokerUnavailable as error:
            errors.append((error, time.monotonic() - began))
            await asyncio.sleep(0.05)
        else:
            return sent, errors
    raise AssertionError(f"no push was possible: {errors[-1]!r}")


async def test_whatever_node_the_url_names_the_tasks_are_the_same(cluster):
    sent = []
    for url in cluster.urls:
        broker = ValkeyBroker(url, prefix=PREFIX, is_cluster=True)
        here, there = tasks(2)
        assert await broker.apush([here]) == [True]
        assert await aside(broker.push, [there]) == [True]
        await broker.aclose()
        sent += [here, there]

    broker = ValkeyBroker(cluster.stranger, prefix=PREFIX, is_cluster=True)
    await aside(broker.renew, ALICE.node, A_LEASE)
    assert ids(await take(broker)) == ids_of(sent)
    await broker.aclose()


def test_without_cluster_mode_the_error_names_the_option(cluster):
    broker = ValkeyBroker(cluster.stranger, prefix=PREFIX)
    with pytest.raises(BrokerUnavailable, match="CLUSTER_MODE"):
        broker.push([a_task()])
    broker.close()


async def test_cluster_mode_is_refused_for_a_server_that_is_alone(valkey_server):
    broker = ValkeyBroker(valkey_server, prefix=PREFIX, is_cluster=True)
    with pytest.raises(ConfigError, match="CLUSTER_MODE"):
        await aside(broker.push, [a_task()])
    with pytest.raises(ConfigError, match="CLUSTER_MODE"):
        await broker.apush([a_task()])


async def test_a_slot_that_moves_takes_everything_with_it(cluster, broker, consumer):
    former, new = cluster.primary, cluster.stranger
    await aside(broker.push, [a_task()])

    await aside(cluster.move, former, new)

    sent = tasks(3)
    await aside(broker.push, sent[:1])
    await broker.apush(sent[1:])
    await consumer.does(sent)
    assert [str(error) for error in consumer.errors if "is moving the keys" not in str(error)] == []
    assert not cluster.keys(former)
    assert ids_of(sent)[0] in consumer.done


async def test_no_connection_to_a_former_primary_stays_open(cluster, broker, consumer):
    former, new = cluster.primary, cluster.stranger
    await aside(broker.push, [a_task()])
    assert {name.split("-")[1] for name in cluster.clients(former)} == {"sync", "async", "wait"}

    await aside(cluster.move, former, new)
    await aside(broker.push, [a_task()])
    sent = tasks(1)
    await broker.apush(sent)
    await consumer.does(sent)

    await aside(eventually, lambda: cluster.clients(former) == [], "nobody listens to the former primary")
    assert {name.split("-")[1] for name in cluster.clients(new)} == {"sync", "async", "wait"}


async def test_while_a_slot_moves_pushes_fail_or_are_done_once(cluster, broker):
    former, new = cluster.primary, cluster.stranger
    kept = [a_task(queue="mail"), a_task(queue="post")]
    await broker.apush(kept)

    await aside(cluster.begin_move, former, new)
    await aside(cluster.move_keys, former, new, "queues")
    refused = [a_task(queue="mail"), a_task(queue="post"), a_task(queue="new")]
    for task in refused:
        with pytest.raises(BrokerUnavailable, match="moving the keys"):
            await broker.apush([task])
        with pytest.raises(BrokerUnavailable, match="moving the keys"):
            await aside(broker.push, [task])
    await aside(cluster.move_keys, former, new)
    await aside(cluster.end_move, former, new)

    found = [claim for queue in ("mail", "post", "new") for claim in await take(broker, queue=queue)]
    assert sorted(ids(found)) == sorted(ids_of(kept))


async def test_a_planned_hand_over_costs_neither_a_task_nor_an_error_of_idle_claims(cluster, broker, consumer):
    former, new = cluster.primary, cluster.replica
    await aside(cluster.promote, new)
    await aside(eventually, lambda: cluster.primary == new, "the replica is the primary")

    sent, _ = await push_when_possible(broker.apush)
    also_sent, _ = await push_when_possible(lambda some: aside(broker.push, some))

    await consumer.does(sent + also_sent, within=AT_ONCE)
    assert len(set(consumer.done)) == len(consumer.done)
    await aside(eventually, lambda: cluster.clients(former) == [], "nobody listens to the former primary")


async def test_when_a_primary_falls_silent_its_replica_is_used_and_no_push_is_repeated(cluster, broker):
    new = cluster.replica
    await broker.apush(tasks(1))
    await aside(broker.push, tasks(1))
    await aside(cluster.replicate)
    thaw = await aside(cluster.freeze, cluster.primary)
    try:
        (sent, errors), (also_sent, also_errors) = await asyncio.gather(
            push_when_possible(broker.apush), push_when_possible(lambda some: aside(broker.push, some))
        )
    finally:
        thaw()

    assert errors
    assert also_errors
    assert max(took for _, took in errors + also_errors) < WITHIN
    await aside(cluster.settle)
    assert cluster.primary == new
    found = ids(await take(broker))
    assert set(ids_of(sent + also_sent)) <= set(found)
    assert len(set(found)) == len(found)


async def test_a_claim_that_is_cancelled_after_a_fail_over_ends_no_wait_on_the_new_primary(cluster, broker):
    """The server's number of a connection is another connection's on another server."""
    new = cluster.replica
    before = await aside(unblocked_on, new)
    idle = await idle_claim(broker)
    await aside(cluster.replicate)
    thaw = await aside(cluster.freeze, cluster.primary)
    try:
        await push_when_possible(broker.apush)
        idle.cancel()
        await asyncio.wait({idle}, timeout=SOON)
        async with asyncio.timeout(SOON):
            while broker._late:
                await asyncio.wait(broker._late)
    finally:
        thaw()

    assert await aside(unblocked_on, new) == before


def unblocked_on(url):
    with valkey.Valkey.from_url(url) as client:
        return client.info("commandstats").get("cmdstat_client|unblock", {"calls": 0})["calls"]


async def test_while_no_node_answers_one_thread_looks_for_all(broker_of_silence):
    before = threading.active_count()
    calls = [asyncio.create_task(broker_of_silence.keep_only(ALICE, [])) for _ in range(20)]
    await asyncio.wait(calls, timeout=0.5)

    # One that looks, and at times another that connects for it.
    assert threading.active_count() - before <= 2
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(answer) for answer in answers} == {BrokerUnavailable}


@pytest.fixture
async def broker_of_silence():
    """Give a broker of a cluster that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        broker = ValkeyBroker("valkey://{}:{}".format(*listener.getsockname()), prefix=PREFIX, is_cluster=True)
        yield broker
        await broker.aclose()


class TestWithoutANode:
    @pytest.fixture
    def cluster(self):
        with clusters.running(PREFIX) as cluster:
            yield cluster

    async def test_when_a_primary_is_killed_its_replica_is_used(self, cluster, broker, consumer):
        new = cluster.replica
        await aside(cluster.replicate)
        await aside(cluster.kill, cluster.primary)

        (sent, errors), (also_sent, also_errors) = await asyncio.gather(
            push_when_possible(broker.apush), push_when_possible(lambda some: aside(broker.push, some))
        )

        await aside(eventually, lambda: cluster.primary == new, "the replica is the primary")
        assert errors
        assert also_errors
        assert max(took for _, took in errors + also_errors) < DEADLINE
        await consumer.does(sent + also_sent, within=AT_ONCE)
        assert len(set(consumer.done)) == len(consumer.done)
