"""A push that must reach a replica: it returns when the replica has it, and says so when none does."""

import time

import pytest

from django_vtasks.brokers.valkey import ValkeyBroker
from django_vtasks.brokers.valkey.connector import DEADLINE
from django_vtasks.brokers.valkey.keys import Keys
from django_vtasks.errors import NotReplicated
from tests.contract.given import a_task, mutex, tasks
from tests.contract.threads import aside
from tests.databases import require_server
from tests.integration.probes import eventually
from tests.integration.valkeys import own_valkey

PREFIX = "{vt}"
WAITING = Keys(PREFIX).waiting("mail")


@pytest.fixture(scope="module")
def pair():
    """Give a primary and its replica."""
    require_server("valkey")
    with own_valkey() as primary, own_valkey() as replica:
        primary.configure(**{"repl-diskless-sync-delay": 0})
        with replica.client() as client:
            client.replicaof("127.0.0.1", primary.port)
            eventually(lambda: client.info("replication")["master_link_status"] == "up", "the replica has it all")
        yield primary, replica


@pytest.fixture
def primary(pair):
    with pair[0].client() as client:
        client.flushall()
        client.script_flush()
        assert client.wait(1, 5000) == 1
    return pair[0]


@pytest.fixture
def replica(pair, primary):
    yield pair[1]
    pair[1].thaw()


@pytest.fixture
async def broker(primary):
    broker = ValkeyBroker(primary.url, prefix=PREFIX, min_replicas=1)
    yield broker
    await broker.aclose()


def push_of(broker, kind):
    """Return an awaitable push, from a thread or from the loop."""
    return broker.apush if kind == "loop" else lambda envelopes: aside(broker.push, envelopes)


from_both = pytest.mark.parametrize("kind", ["thread", "loop"])


def length(server):
    with server.client() as client:
        return client.llen(WAITING)


@from_both
async def test_a_replica_has_what_was_pushed(broker, replica, kind):
    push = push_of(broker, kind)
    for expected in range(1, 21):
        assert await push([a_task()]) == [True]
        assert length(replica) == expected


@from_both
async def test_the_answers_of_a_push_are_told_apart_from_the_replicas(broker, replica, kind):
    push = push_of(broker, kind)

    assert await push([a_task(unique=mutex()), a_task(unique=mutex())]) == [True, False]

    assert length(replica) == 1


@from_both
async def test_a_push_that_no_replica_confirms_says_what_that_means(broker, primary, replica, kind):
    push = push_of(broker, kind)
    await push([a_task()])
    replica.freeze()

    began = time.monotonic()
    with pytest.raises(NotReplicated, match=r"on the primary and on 0 replicas, not on 1 \(MIN_REPLICAS\)"):
        await push([a_task()])

    assert time.monotonic() - began < DEADLINE
    assert length(primary) == 2


@from_both
async def test_pushes_go_on_when_the_replica_does(broker, primary, replica, kind):
    push = push_of(broker, kind)
    replica.freeze()
    with pytest.raises(NotReplicated):
        await push([a_task()])
    replica.thaw()

    assert await push([a_task()]) == [True]

    assert length(replica) == 2


@from_both
async def test_more_replicas_than_there_are_are_never_reached(primary, replica, kind):
    broker = ValkeyBroker(primary.url, prefix=PREFIX, min_replicas=2)
    with pytest.raises(NotReplicated, match="on 1 replicas, not on 2"):
        await push_of(broker, kind)([a_task()])
    await broker.aclose()

    assert length(replica) == 1


@from_both
async def test_an_error_of_the_push_itself_is_told_without_its_arguments(primary, replica, kind):
    broker = ValkeyBroker(replica.url, prefix=PREFIX, min_replicas=1)
    with pytest.raises(Exception, match="is a replica, which takes no tasks") as caught:
        await push_of(broker, kind)([a_task("a secret")])
    await broker.aclose()

    assert "a secret" not in repr(caught.value.__cause__)


async def test_a_frozen_replica_costs_no_other_call_its_time(broker, replica):
    await broker.apush(tasks(3))
    replica.freeze()

    began = time.monotonic()
    assert (await aside(broker.depth, "mail")).waiting == 3
    assert time.monotonic() - began < 1
