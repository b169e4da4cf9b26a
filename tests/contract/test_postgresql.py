"""The contract in PostgreSQL."""

from tests.contract.database import ServerContract


class TestPostgreSQL(ServerContract):
    alias = "postgres"
