"""Databases whose own character set cannot say everything."""

from collections.abc import Iterator
from copy import deepcopy

import pytest
from django.core.management import call_command
from django.db import connections

from django_vtasks.brokers.base import Bury, Owner, TaskFailure
from django_vtasks.brokers.database import DatabaseBroker
from tests.contract.given import tasks
from tests.contract.threads import aside

CREATE = {
    "postgres": "CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
    "mariadb": "CREATE DATABASE {name} CHARACTER SET latin1",
}
DROP = {"postgres": "DROP DATABASE {name} WITH (FORCE)", "mariadb": "DROP DATABASE {name}"}
BOOM = TaskFailure("builtins.ValueError", "💥 日本", "Traceback: 💥")
OWNER = Owner("nörth", "mail#1")


@pytest.fixture(params=CREATE)
def server(request, database):
    return database(request.param)


@pytest.fixture
def latin1(server) -> Iterator[str]:
    settings = deepcopy(connections.settings[server])
    settings["NAME"] = f"{settings['NAME']}_latin1"
    alias = f"{server}_latin1"
    connections.settings[alias] = settings
    with connections[server].cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {settings['NAME']}")
        cursor.execute(CREATE[server].format(name=settings["NAME"]))
    call_command("migrate", database=alias, verbosity=0)
    yield alias
    connections[alias].close()
    del connections[alias], connections.settings[alias]
    with connections[server].cursor() as cursor:
        cursor.execute(DROP[server].format(name=settings["NAME"]))


async def test_a_failure_in_any_language_is_buried(latin1, server):
    broker = DatabaseBroker(using=latin1)
    await aside(broker.renew, OWNER.node, 60.0)
    await aside(broker.push, tasks(1))
    [claim] = await broker.claim(OWNER, "mail", 1)

    assert await broker.settle(OWNER, [Bury(claim, BOOM)]) == [True]

    [entry] = await aside(broker.failed)
    assert "ValueError" in entry.failure.exception
    assert entry.failure.message in {BOOM.message, BOOM.message.encode("ascii", "backslashreplace").decode()}
    assert entry.failure.message == BOOM.message or server == "postgres"
    await broker.aclose()
