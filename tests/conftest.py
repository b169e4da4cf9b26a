"""What all tests share: Django set up, servers for the time of the session, fixtures for what stores tasks."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import django
import pytest
from django.conf import settings  # noqa: TID251 - what overrides them must end
from django.db import connections

from tests import databases, servers

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-servers", action="store_true", help="Start no PostgreSQL and MariaDB: SQLite only.")


def pytest_configure(config: pytest.Config) -> None:
    """Start the servers where the session is controlled; the xdist workers inherit their addresses."""
    only_asks = config.option.help or config.option.collectonly
    if not hasattr(config, "workerinput") and not only_asks:
        wanted = [] if config.option.no_servers else [name for name in servers.DATABASES if name in servers.installed()]
        stack = contextlib.ExitStack()
        config.add_cleanup(stack.close)
        try:
            os.environ.update(stack.enter_context(servers.running(*wanted)))
        except servers.ServerError as error:
            pytest.exit(f"{error}\n--no-servers runs the tests on SQLite only.", returncode=3)
    django.setup()


@pytest.fixture(autouse=True)
def _nothing_set_outlives_the_test() -> Iterator[None]:
    """Fail the test that leaves Django's settings or our variables other than they were, and forget what was read."""
    from django_vtasks import conf

    lazy: Any = settings
    before = lazy._wrapped, _variables()
    yield
    conf._load.cache_clear()
    after = lazy._wrapped, _variables()
    lazy._wrapped = before[0]
    assert after == before, "The test has left settings or VTASKS_ variables behind."


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("VTASKS_")}


@pytest.fixture
def database() -> Iterator[Callable[[str], str]]:
    """Give a function that takes the alias of a database and returns it with this package's tables there and empty."""

    def ready(alias: str) -> str:
        if alias != "default":
            databases.require_server(alias)
        databases.create(alias)
        databases.empty(alias)
        return alias

    yield ready
    connections.close_all()


@pytest.fixture(params=["in the settings", "in the options"])
def behind_silent_hosts(
    request: pytest.FixtureRequest, database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Give the alias of a PostgreSQL that is the last of three hosts, of which the others never answer."""
    alias = database("postgres")
    settings = connections.settings[alias]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        hosts, ports = f"127.0.0.1,127.0.0.1,{settings['HOST']}", f"{port},{port},5432"
        is_option = request.param == "in the options"
        options = {"host": hosts, "port": ports} if is_option else {}
        monkeypatch.setitem(settings, "OPTIONS", settings.get("OPTIONS", {}) | options)
        monkeypatch.setitem(settings, "HOST", "" if is_option else hosts)
        monkeypatch.setitem(settings, "PORT", "" if is_option else ports)
        yield alias


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[str]:
    """Give the URL of a Valkey server that belongs to this xdist worker."""
    databases.require_server("valkey")
    with servers.running("valkey") as addresses:
        yield addresses["TEST_VALKEY_URL"]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """Give the URL of a Redis server that belongs to this xdist worker."""
    databases.require_server("redis")
    with servers.running("redis") as addresses:
        yield addresses["TEST_REDIS_URL"]
