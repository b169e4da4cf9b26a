"""What a server says of itself, and what users are told of it."""

import pytest
import valkey

from django_vtasks.brokers.valkey.connector import Connector
from django_vtasks.brokers.valkey.inspection import inspect, refusals
from django_vtasks.brokers.valkey.link import Link
from django_vtasks.errors import BrokerUnavailable, ConfigError
from tests import servers
from tests.databases import require_server
from tests.integration.valkeys import own_valkey

PREFIX = "{vt}"
GOOD = {"maxmemory": 0, "maxmemory-policy": "noeviction", "appendonly": "no", "save": "3600 1"}


@pytest.fixture(scope="module")
def server():
    require_server("valkey")
    with own_valkey() as server:
        yield server


@pytest.fixture
def told(server):
    """Give a function that returns what is told of the server, configured so."""
    links = []

    def configured(min_replicas=0, user="", **settings):
        server.configure(**GOOD | {name.replace("_", "-"): value for name, value in settings.items()})
        link = Link(Connector(server.url.replace("://", f"://{user}"), PREFIX))
        links.append(link)
        return inspect(link, min_replicas)

    yield configured
    for link in links:
        link.close()


def test_of_a_good_server_nothing_is_told(told):
    assert told() == []
    assert told(save="", appendonly="yes") == []


def test_a_redis_is_as_good(redis_server):
    link = Link(Connector(redis_server, PREFIX))
    with valkey.Valkey.from_url(redis_server) as client:
        client.config_set("save", "3600 1")
        try:
            assert inspect(link) == []
        finally:
            client.config_set("save", "")
            link.close()


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_a_server_that_deletes_tasks_is_refused(told, policy):
    with pytest.raises(ConfigError, match=f"deletes tasks when its memory is full .maxmemory-policy {policy}"):
        told(maxmemory="1gb", maxmemory_policy=policy)


def test_a_server_that_would_delete_tasks_with_a_limit_is_told_of(told):
    [warning] = told(maxmemory_policy="allkeys-lru")
    assert "would delete tasks if it had a limit" in warning


@pytest.mark.parametrize("maxmemory", ["0", "1gb"])
def test_a_server_that_deletes_locks_is_told_of(told, maxmemory):
    [warning] = told(maxmemory=maxmemory, maxmemory_policy="volatile-ttl")
    assert "deletes the locks of unique tasks" in warning


def test_a_server_that_keeps_nothing_on_disk_is_told_of(told):
    [warning] = told(save="")
    assert "all tasks are lost" in warning


def test_fewer_replicas_than_each_push_must_reach_are_told_of(told):
    [warning] = told(min_replicas=2)
    assert "has 0 replicas, and MIN_REPLICAS is 2" in warning


def test_a_replica_is_refused(server, told):
    with server.client() as client:
        client.replicaof("127.0.0.1", servers.free_port())
        try:
            with pytest.raises(ConfigError, match="is a replica"):
                told()
        finally:
            client.replicaof("NO", "ONE")


def allow(server, *rights):
    """Make a user with these rights; return its part of a URL."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">word", "~*", *rights)
    return "limited:word@"


def test_where_config_is_forbidden_the_rest_is_told(server, told):
    user = allow(server, "+@all", "-config")

    assert told(user=user, save="") == []
    assert len(told(user=user, save="", maxmemory_policy="volatile-lru")) == 1
    with pytest.raises(ConfigError, match="deletes tasks"):
        told(user=user, maxmemory="1gb", maxmemory_policy="allkeys-lru")


def test_where_all_is_forbidden_nothing_is_told(server, told):
    assert told(user=allow(server, "+@all", "-config", "-info"), save="") == []


def test_a_server_that_is_not_there_is_another_matter():
    link = Link(Connector(f"valkey://127.0.0.1:{servers.free_port()}", PREFIX))
    with pytest.raises(BrokerUnavailable):
        inspect(link)


@pytest.mark.parametrize(
    ("versions", "refused"),
    [
        ({"redis_version": "6.2.14"}, "Redis 6.2.14, which is too old"),
        ({"redis_version": "7.0.0"}, None),
        ({"redis_version": "10.0.1"}, None),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.9"}, "Valkey 7.1.9, which is too old"),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.5"}, None),
        ({"redis_version": "7.2.4", "valkey_version": "8.0.1"}, None),
        ({}, None),
    ],
)
def test_a_server_that_is_too_old_is_refused(versions, refused):
    found = list(refusals(versions))
    assert found == [] if refused is None else refused in found[0]


def test_a_replica_in_a_cluster_is_not_refused():
    assert list(refusals({"role": "slave", "cluster_enabled": 1})) == []
