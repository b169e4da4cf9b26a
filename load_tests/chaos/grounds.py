"""The stores under fault, by their kinds, and the ways to them."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, override

from load_tests.chaos.ground import Ground, Served, tasks_of
from tests import servers
from tests.integration.outages import POSTGRES_SOCKET
from tests.integration.proxies import HOST, Proxy

PATIENCE = 30.0
"""Seconds for a command that should take none."""
CLIENTS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"


class PostgresGround(Served):
    """PostgreSQL, as durable as shipped."""

    kind = "postgres"
    unsettled = 1.0
    server_class = servers.DurablePostgreSQL

    @override
    def settings(self, line: Proxy | None = None) -> dict[str, Any]:
        host = str(self.server.directory) if line is None else line.host
        entry = {"ENGINE": "django.db.backends.postgresql", "HOST": host, "USER": "vtasks", "NAME": "postgres"}
        return _database(entry if line is None else entry | {"PORT": line.port})

    @override
    def line(self, host: str = HOST) -> Proxy:
        return Proxy(f"{self.server.directory}/{POSTGRES_SOCKET}", host)

    @override
    def answers(self) -> bool:
        import psycopg

        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(host=str(self.server.directory), user="vtasks", dbname="postgres").close()
            return True
        return False

    @override
    def connections(self) -> int:
        import psycopg

        host = str(self.server.directory)
        with contextlib.closing(psycopg.connect(host=host, user="vtasks", dbname="postgres")) as connection:
            [count] = connection.execute(CLIENTS).fetchone() or [0]
            return int(count)


class MariaGround(Served):
    """MariaDB, as durable as shipped."""

    kind = "mariadb"
    unsettled = 1.5
    server_class = servers.DurableMariaDB

    @override
    def settings(self, line: Proxy | None = None) -> dict[str, Any]:
        entry = {"ENGINE": "django.db.backends.mysql", "USER": "root", "NAME": "chaos"}
        way = {"HOST": self._socket} if line is None else {"HOST": line.host, "PORT": line.port}
        return _database(entry | way | {"OPTIONS": {"charset": "utf8mb4"}})

    @override
    def line(self, host: str = HOST) -> Proxy:
        return Proxy(self._socket, host)

    @override
    def answers(self) -> bool:
        import MySQLdb

        with contextlib.suppress(MySQLdb.OperationalError):
            connection = MySQLdb.connect(unix_socket=self._socket, user="root")
            connection.query("CREATE DATABASE IF NOT EXISTS chaos")
            connection.close()
            return True
        return False

    @override
    def connections(self) -> int:
        import MySQLdb

        with contextlib.closing(MySQLdb.connect(unix_socket=self._socket, user="root")) as connection:
            connection.query("SELECT count(*) FROM information_schema.processlist WHERE user = 'root'")
            [[count]] = connection.store_result().fetch_row()
            return int(count) - 1

    @property
    def _socket(self) -> str:
        return self.server.address()["TEST_MARIADB_SOCKET"]


class DurableValkey(servers.Valkey):
    """Keeps what it has acknowledged."""

    options: tuple[str, ...] = ("--appendfsync", "always")

    @override
    def command(self) -> list[str]:
        usual = [option if option != "no" else "yes" for option in super().command()]
        return [*usual, *self.options]


class ValkeyGround(Served):
    """Valkey that keeps what it has acknowledged; the project's database is not under fault."""

    kind = "valkey"
    server_class = DurableValkey
    server: DurableValkey

    @override
    def settings(self, line: Proxy | None = None) -> dict[str, Any]:
        options = {"BROKER_URL": self.url if line is None else f"valkey://{line.host}:{line.port}/0"}
        tasks = tasks_of("valkey.ValkeyTaskBackend", OPTIONS=options)
        return {"DATABASES": {"default": self.sqlite()}, "TASKS": tasks}

    @override
    def line(self, host: str = HOST) -> Proxy:
        return Proxy(self.server.port, host)

    @override
    def answers(self) -> bool:
        import valkey

        with contextlib.suppress(valkey.exceptions.ValkeyError), self.client() as client:
            return bool(client.ping())
        return False

    @override
    def connections(self) -> int:
        with self.client() as client:
            return len(client.client_list(_type="normal")) - 1

    @property
    def url(self) -> str:
        """Where the server is."""
        return self.server.address()["TEST_VALKEY_URL"]

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """Yield a client of the server's."""
        import valkey

        with valkey.Valkey.from_url(self.url, socket_timeout=5.0) as client:
            yield client


def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="vtasks-chaos-", ignore_cleanup_errors=True)


GROUNDS: dict[str, Callable[[Path], Ground]] = {
    ground.kind: ground for ground in (Ground, PostgresGround, MariaGround, ValkeyGround)
}
SERVED = frozenset({"postgres", "mariadb", "valkey"})


@contextlib.contextmanager
def ground(make: Callable[[Path], Ground], disk: str | None = None) -> Iterator[Ground]:
    """Run a store for as long as the block lasts, on a disk of its own if its size is given."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(_directory()))
        if disk is not None:
            mount = ("mount", "-t", "tmpfs", "-o", f"size={disk}", "tmpfs", str(directory))
            subprocess.run(mount, check=True, timeout=PATIENCE)
            stack.callback(subprocess.run, ("umount", "--lazy", str(directory)), check=True, timeout=PATIENCE)
        if owner := servers.unprivileged().get("user"):
            os.chown(directory, owner, -1)
        directory.chmod(0o755)
        store = make(directory)
        try:
            store.start()
            yield store
        finally:
            store.close()


def _database(entry: dict[str, Any]) -> dict[str, Any]:
    return {"DATABASES": {"default": entry}, "TASKS": tasks_of("db.DatabaseTaskBackend")}
