"""The contract in PostgreSQL."""

from tests.contract.database import DatabaseContract


class TestPostgreSQL(DatabaseContract):
    alias = "postgres"
