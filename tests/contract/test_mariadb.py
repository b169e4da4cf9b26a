"""The contract in MariaDB."""

from tests.contract.database import DatabaseContract


class TestMariaDB(DatabaseContract):
    alias = "mariadb"
