"""The contract in PostgreSQL."""

import pytest
from django.db import connections

from tests.contract.database import DatabaseContract, ServerContract


class TestPostgreSQL(ServerContract):
    alias = "postgres"

    @pytest.fixture
    def careful(self, database, monkeypatch):
        """Let the project's sessions wait for the disk, unlike the tests' server."""
        settings = connections.settings[database(self.alias)]
        monkeypatch.setitem(settings, "OPTIONS", {**settings["OPTIONS"], "options": "-c synchronous_commit=local"})

    @pytest.mark.usefixtures("careful")
    def test_a_slot_waits_for_the_disk_though_claims_do_not(self, broker):
        """A crash of the server would take the task with it, and nobody ticks a slot again."""

        def level(connection):
            with connection.cursor() as cursor:
                cursor.execute("SHOW synchronous_commit")
                return cursor.fetchone()[0]

        def look(connection):
            with broker._dialect.durable_transaction(connection):
                durable = level(connection)
            return durable, level(connection)

        assert broker._apart(look) == ("local", "off")


class TestBoundAndPreparedByTheServer(DatabaseContract):
    """Where the project lets the server bind and prepare each statement, which then has types and is a single one."""

    alias = "postgres"

    @pytest.fixture(autouse=True)
    def _options(self, database, monkeypatch):
        connection = connections[database(self.alias)]
        connection.close()
        settings = connections.settings[self.alias]
        options = {**settings["OPTIONS"], "server_side_binding": True, "prepare_threshold": 0}
        monkeypatch.setitem(settings, "OPTIONS", options)
        yield
        connection.close()
