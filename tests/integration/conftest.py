"""A stage for each test: on SQLite unless the test or its class is marked for more stores."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import valkey
from django.test import override_settings

from tests.integration.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.stage import Stage

ADDRESSES = {"postgres": "TEST_POSTGRES_HOST", "mariadb": "TEST_MARIADB_SOCKET"}


@pytest.fixture(params=["default"], ids=["sqlite"])
def alias(request):
    return request.param


@pytest.fixture
def overrides():
    """Give what ends all overrides of settings in the reverse of their order: in another they would come back."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def stages(tmp_path, overrides) -> Iterator[Callable[..., Stage]]:
    """Give a function that sets a stage on a database of this process, or on the Valkey whose URL the environment has.

    Its workers end with the test.
    """
    with contextlib.ExitStack() as stack:
        # Their models can be imported only after Django's set-up, which comes after this module.
        from tests.integration.stage import Stage
        from tests.integration.stores import DATABASE, VALKEY, Tables, ValkeyStore

        def on(alias: str, **environment: str) -> Stage:
            url = environment.get("TEST_TASKS_VALKEY")
            where = {"TEST_TASKS_VALKEY": url} if url else {"TEST_TASKS_DATABASE": alias}
            backend = (
                {"BACKEND": VALKEY, "OPTIONS": {"BROKER_URL": url}}
                if url
                else {"BACKEND": DATABASE, "OPTIONS": {"DATABASE": alias}}
            )
            overrides.enter_context(override_settings(TASKS={"default": backend}))
            ledger = Ledger(Path(tmp_path) / "ledger")
            # Of the servers, a worker knows the one that it needs: system checks connect to every MariaDB there is.
            told = {
                **{address: "" for name, address in ADDRESSES.items() if name != alias},
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                **where,
                "TEST_LEDGER": str(ledger.directory),
                "PYTHONUNBUFFERED": "1",
            }
            stage = Stage(
                alias=alias,
                store=ValkeyStore(url) if url else Tables(alias),
                ledger=ledger,
                logs=Path(tmp_path),
                environment=told | environment,
            )
            if url:
                stack.callback(stage.broker.close)
            stack.callback(stage.stop)
            return stage

        yield on


@pytest.fixture
def valkey_url(valkey_server):
    """Give the URL of this xdist worker's Valkey, which is empty."""
    with valkey.Valkey.from_url(valkey_server) as client:
        client.flushall()
        client.script_flush()
    return valkey_server


@pytest.fixture
def stage(alias, request, database, stages):
    if alias == "valkey":
        return stages(alias, TEST_TASKS_VALKEY=request.getfixturevalue("valkey_url"))
    return stages(database(alias))


@pytest.fixture
def backend_settings(alias, request, database):
    """Give what TASKS says of a backend whose store is there and empty."""
    from tests.integration.stores import DATABASE, VALKEY

    if alias == "valkey":
        return {"BACKEND": VALKEY, "OPTIONS": {"BROKER_URL": request.getfixturevalue("valkey_url")}}
    return {"BACKEND": DATABASE, "OPTIONS": {"DATABASE": database(alias)}}


@pytest.fixture
def rows(alias, backend_settings):
    """Give the tasks in the store as a queryset, or as what is read like one."""
    from django_vtasks.db.models import TaskRow
    from tests.integration.stores import Entries

    if alias == "valkey":
        return Entries(backend_settings["OPTIONS"]["BROKER_URL"])
    return TaskRow.objects.using(alias).order_by("id")


@pytest.fixture
def locks(alias, backend_settings):
    """Give the locks of unique tasks like the rows."""
    from django_vtasks.db.models import LockRow
    from tests.integration.stores import Locks

    if alias == "valkey":
        return Locks(backend_settings["OPTIONS"]["BROKER_URL"])
    return LockRow.objects.using(alias)


@pytest.fixture
def settings(overrides):
    """Give a function that changes settings of this process, which enqueues, until the test ends."""
    return lambda **values: overrides.enter_context(override_settings(**values))
