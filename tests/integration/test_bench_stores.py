"""What the servers tell of themselves that are measured on."""

import contextlib

import pytest

from load_tests import stage, yardsticks
from load_tests.bench import stores
from tests import databases


@pytest.fixture
def store(request):
    """Give a running store of a kind."""
    if request.param != "sqlite":
        databases.require_server(request.param)
    with stores.running(request.param, durable=False) as running:
        yield running


@pytest.mark.parametrize(
    ("store", "names"), [("valkey", ["lpush/s"]), ("postgres", ["selects/s"]), ("sqlite", [])], indirect=["store"]
)
def test_a_yardstick_is_what_a_benchmark_of_the_servers_own_makes_if_it_has_one(store, names):
    found = store.yardstick()

    assert list(found) == names
    assert all(value > 0 for value in found.values())


@pytest.mark.parametrize(("kind", "names"), [("valkey", ["lpush/s"]), ("postgres", ["selects/s"]), ("sqlite", [])])
def test_scenarios_of_this_package_alone_have_the_same_yardsticks(kind, names):
    if kind != "sqlite":
        databases.require_server(kind)
    with stage.backend(kind, durable=False) as settings:
        assert list(yardsticks.of(settings)) == names


@pytest.mark.parametrize("store", ["mariadb"], indirect=True)
def test_each_client_of_mariadb_is_one_connection_more(store):
    import MySQLdb

    before = store.connections()
    with contextlib.closing(MySQLdb.connect(unix_socket=store._entry["HOST"], user="root")):
        assert store.connections() == before + 1
