"""The contract in MariaDB."""

from tests.contract.database import ServerContract


class TestMariaDB(ServerContract):
    alias = "mariadb"
