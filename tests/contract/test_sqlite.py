"""The contract in SQLite."""

from tests.contract.database import DatabaseContract


class TestSQLite(DatabaseContract):
    alias = "default"
