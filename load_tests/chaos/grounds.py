"""The stores under fault: a server of the run's own that is killed, frozen and started again, and the ways to it."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, override

import psutil

from tests import servers
from tests.integration.outages import POSTGRES_SOCKET
from tests.integration.probes import eventually
from tests.integration.proxies import HOST, Proxy

SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 5,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    },
}


PATIENCE = 30.0
"""Seconds for a command that should take none."""
CLIENTS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"


class Ground:
    """A store that has no server: SQLite."""

    kind: ClassVar[str] = "sqlite"
    unsettled: ClassVar[float] = 0.0
    """Seconds before a crash of which the ends of tasks may be undone: workers do not wait for the disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def start(self) -> None:
        """Start the server, on the data that it has left if there is any."""

    def close(self) -> None:
        """End the server."""

    def settings(self, line: Proxy | None = None) -> dict[str, Any]:
        """Return the settings of who reaches the store, over a line if there is one."""
        assert line is None, "there is no way to SQLite that could be cut"
        return {"DATABASES": {"default": self._sqlite()}, "TASKS": _tasks("db.DatabaseTaskBackend")}

    def line(self, host: str = HOST) -> Proxy:
        """Make a way to the server that can be cut."""
        raise NotImplementedError

    def connections(self) -> int:
        """Return how many connections of clients the server has, but the one that asks."""
        return 0

    def _sqlite(self) -> dict[str, Any]:
        return SQLITE | {"NAME": str(self.directory / "db.sqlite3")}


class Served(Ground):
    """A store with a server of the run's own."""

    server_class: ClassVar[type[servers.Server]]

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.server = self.server_class(directory)
        self._is_initialised = False

    @override
    def start(self) -> None:
        if self._is_initialised:
            self.server.log.unlink()
            self.server.run_until_ready()
        else:
            self.server.start()
            self._is_initialised = True
        eventually(self.answers, f"{self.kind} answers", within=30.0)

    @override
    def close(self) -> None:
        self.thaw()
        self.server.stop()

    @property
    def is_running(self) -> bool:
        """Tell whether the server has not ended."""
        return self.server.process is not None and self.server.process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """Return the server's processes."""
        assert self.server.process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self.server.process.pid)
            return [first, *first.children(recursive=True)]
        return []

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the server by a signal."""
        assert self.server.process is not None
        processes = self.processes()
        self.server.process.send_signal(number)
        self.server.process.wait(30.0)
        # Those of a PostgreSQL whose first was killed end by themselves, and none starts before.
        psutil.wait_procs(processes, 30.0)

    def freeze(self) -> None:
        """Stop the server; connections stay open, and the kernel accepts new ones."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def answers(self) -> bool:
        """Tell whether the server does what it is there for."""
        raise NotImplementedError

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


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
        tasks = _tasks("valkey.ValkeyTaskBackend", OPTIONS=options)
        return {"DATABASES": {"default": self._sqlite()}, "TASKS": tasks}

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


def _tasks(backend: str, **options: Any) -> dict[str, Any]:
    return {"default": {"BACKEND": f"django_vtasks.backends.{backend}", **options}}


def _database(entry: dict[str, Any]) -> dict[str, Any]:
    return {"DATABASES": {"default": entry}, "TASKS": _tasks("db.DatabaseTaskBackend")}
