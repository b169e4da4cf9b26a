"""What the guide's projects need beside themselves: workers that end, and tables that go, with the test."""

import pytest
from django.db import connections


@pytest.fixture
def start():
    """Give a function that starts a project's worker and returns it when it takes tasks; it ends with the test."""
    workers = []

    def start(project, command, **environment):
        workers.append(project.start(command, **environment))
        return workers[-1].until_ready()

    yield start
    for worker in workers:
        worker.kill()
        print(worker.log[-10_000:])  # noqa: T201 - pytest shows it when the test has failed


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
