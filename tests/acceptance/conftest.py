"""What the guide's projects need beside themselves: a store, workers that end, and tables that go, with the test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import valkey
from django.db import connections
from django.tasks import task_backends
from django.test import override_settings

if TYPE_CHECKING:
    from django_vtasks.db.models import TaskRow
    from tests.integration.stores import Store


@dataclass
class ProjectStore:
    """Where a project keeps its tasks; ``alias`` is its database, which may be another place."""

    alias: str
    seen: Store
    is_valkey: bool

    @property
    def broker(self) -> Any:
        backend: Any = task_backends["default"]
        return backend.broker

    def rows(self) -> list[TaskRow]:
        return self.seen.rows()

    def locks(self) -> int:
        """Return how many locks of unique tasks are held."""
        return self.seen.locks()


@pytest.fixture(params=["default", "postgres", "valkey"], ids=["sqlite", "postgresql", "valkey"])
def store(request, database, monkeypatch):
    """Give the store of a project's tasks, which is empty: a database of its own, or a Valkey beside it."""
    from tests.integration.stores import DATABASE, VALKEY, Tables, ValkeyStore

    is_valkey = request.param == "valkey"
    alias = database("default" if is_valkey else request.param)
    seen: Store = Tables(alias)
    backend: dict[str, Any] = {"BACKEND": DATABASE, "OPTIONS": {"DATABASE": alias}}
    if is_valkey:
        url = request.getfixturevalue("valkey_server")
        with valkey.Valkey.from_url(url) as client:
            client.flushall()
        monkeypatch.setenv("TEST_TASKS_VALKEY", url)
        seen = ValkeyStore(url)
        backend = {"BACKEND": VALKEY, "OPTIONS": {"BROKER_URL": url}}
    with override_settings(TASKS={"default": backend}):
        store = ProjectStore(alias, seen, is_valkey)
        yield store
        if is_valkey:
            store.broker.close()


@pytest.fixture
def until_the_end():
    """Give a function that takes a process, returns it, and ends it with the test."""
    processes = []

    def keep(process):
        processes.append(process)
        return process

    yield keep
    for process in processes:
        process.kill()
        print(process.log[-10_000:])  # noqa: T201 - pytest shows it when the test has failed


@pytest.fixture
def start(until_the_end):
    """Give a function that starts a project's worker and returns it when it takes tasks."""
    return lambda project, command, **environment: until_the_end(project.start(command, **environment)).until_ready()


@pytest.fixture
def create_table():
    """Give a function that creates the table of a model of a project."""
    created = []

    def create(model, alias):
        with connections[alias].schema_editor() as editor:
            editor.create_model(model)
        created.append((model, alias))

    yield create
    for model, alias in created:
        with connections[alias].schema_editor() as editor:
            editor.delete_model(model)
