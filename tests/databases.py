"""The tests' databases: which are there, made once per xdist worker, emptied for each test."""

import functools
import os

import pytest
from django.core.management.color import no_style
from django.db import connections

from tests import servers


def require_server(name: str) -> None:
    """Skip the test if it cannot have this server (`postgres`, `mariadb`, `valkey`, `redis`, …); in CI fail it."""
    available = name in connections if name in servers.DATABASES else name in servers.installed()
    if available:
        return
    message = f"There is no {name} server (script/servers installs it, --no-servers leaves it out)."
    if os.environ.get("VTASKS_REQUIRE_SERVERS") == "1":
        pytest.fail(message)
    pytest.skip(message)


@functools.cache
def create(alias: str) -> None:
    """Create this worker's database, once, with the tables of all migrations."""
    connections[alias].creation.create_test_db(verbosity=0, autoclobber=True)


@functools.cache
def _tables(alias: str) -> list[str]:
    return [name for name in connections[alias].introspection.table_names() if name.startswith("vtasks_")]


def empty(alias: str) -> None:
    """Delete every row of this package's tables."""
    operations = connections[alias].ops
    operations.execute_sql_flush(operations.sql_flush(no_style(), _tables(alias)))
