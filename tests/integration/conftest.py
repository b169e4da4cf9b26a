"""A stage for each test: on SQLite unless the test or its class is marked for more databases."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
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
def stages(tmp_path) -> Iterator[Callable[[str], Stage]]:
    """Give a function that sets a stage on a database of this process; its workers end with the test."""
    with contextlib.ExitStack() as stack:
        # Its models can be imported only after Django's set-up, which comes after this module.
        from tests.integration.stage import Stage

        def on(alias: str, **environment: str) -> Stage:
            stack.enter_context(
                override_settings(
                    TASKS={
                        "default": {
                            "BACKEND": "django_vtasks.backends.db.DatabaseTaskBackend",
                            "OPTIONS": {"DATABASE": alias},
                        }
                    }
                )
            )
            ledger = Ledger(Path(tmp_path) / "ledger")
            # Of the servers, a worker knows the one that it needs: system checks connect to every MariaDB there is.
            told = {
                **{address: "" for name, address in ADDRESSES.items() if name != alias},
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "TEST_TASKS_DATABASE": alias,
                "TEST_LEDGER": str(ledger.directory),
                "PYTHONUNBUFFERED": "1",
            }
            stage = Stage(alias=alias, ledger=ledger, logs=Path(tmp_path), environment=told | environment)
            stack.callback(stage.stop)
            return stage

        yield on


@pytest.fixture
def stage(alias, database, stages):
    return stages(database(alias))


@pytest.fixture
def settings():
    """Give a function that changes settings of this process, which enqueues, until the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda **values: stack.enter_context(override_settings(**values))
