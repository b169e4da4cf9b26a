"""Where tasks are kept: a server of its own for the whole benchmark, emptied for each run."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, override

import psutil

from load_tests import yardsticks
from load_tests.programs import output
from load_tests.stage import database, entry_of_sqlite
from tests import servers

BACKENDS = ("valkey", "postgres", "sqlite", "mariadb")
DURABLE = ("postgres", "mariadb")
"""Those that can be told to wait for the disk."""


class Store(ABC):
    """A kind of server, running."""

    version = ""
    """What the server is."""

    def __init__(self, keeper: psutil.Process | None) -> None:
        self._keeper = keeper
        self._open = ExitStack()

    @abstractmethod
    def empty(self, directory: Path) -> dict[str, Any]:
        """Empty it; return what tells a contender where it is, by name. A database of Django's is always there."""

    def close(self) -> None:
        """Close what this process has open to it."""
        self._open.close()

    def connections(self) -> int | None:
        """Return how many clients are connected."""
        return None

    def yardstick(self) -> dict[str, float]:
        """Return what a plain benchmark of the server's own makes on this machine now."""
        return {}

    def cpu_seconds(self) -> float | None:
        """Return the CPU time that the server has used."""
        if self._keeper is None:
            return None
        total = 0.0
        for process in self._keeper.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
        return total


class Valkey(Store):
    """A server without a disk; the project's database is an SQLite file, in which no task is."""

    def __init__(self, keeper: psutil.Process, url: str) -> None:
        super().__init__(keeper)
        import valkey

        self._url = url
        self._client = self._open.enter_context(valkey.Valkey.from_url(url))
        self.version = f"Valkey {self._client.info('server')['valkey_version']}"

    @override
    def empty(self, directory: Path) -> dict[str, Any]:
        self._client.flushall()
        return {
            "BENCH_VALKEY_URL": self._url,
            "BENCH_REDIS_URL": self._url.replace("valkey://", "redis://"),
            "BENCH_DJANGO_DATABASE": entry_of_sqlite(directory),
        }

    @override
    def connections(self) -> int | None:
        return int(self._client.info("clients")["connected_clients"])

    @override
    def yardstick(self) -> dict[str, float]:
        return yardsticks.of_valkey(self._url)


class Postgres(Store):
    """A database of its own for each run."""

    def __init__(self, keeper: psutil.Process, host: str) -> None:
        super().__init__(keeper)
        import psycopg

        self._host = host
        connection = psycopg.connect(host=host, user="vtasks", dbname="postgres", autocommit=True)
        self._connection = self._open.enter_context(connection)
        self.version = f"PostgreSQL {self._connection.info.parameter_status('server_version')}"

    @override
    def empty(self, directory: Path) -> dict[str, Any]:
        self._connection.execute("DROP DATABASE IF EXISTS bench WITH (FORCE)")
        self._connection.execute("CREATE DATABASE bench")
        self._connection.execute("CHECKPOINT")  # not while somebody else is measured
        entry = {"ENGINE": "django.db.backends.postgresql", "HOST": self._host, "USER": "vtasks", "NAME": "bench"}
        return {
            "BENCH_DJANGO_DATABASE": entry,
            "BENCH_POSTGRES_DSN": f"host={self._host} user=vtasks dbname=bench",
            "BENCH_POSTGRES_URL": f"postgresql://vtasks@/bench?host={self._host}",
        }

    @override
    def connections(self) -> int | None:
        found = self._connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = 'bench'").fetchone()
        return int(found[0]) if found else None

    @override
    def yardstick(self) -> dict[str, float]:
        return yardsticks.of_postgres(self._host)


class MariaDB(Store):
    """A database of its own for each run."""

    def __init__(self, keeper: psutil.Process, entry: dict[str, Any]) -> None:
        super().__init__(keeper)
        self._entry = entry
        self.version = f"MariaDB {self._run('SELECT VERSION()').strip()}"

    @override
    def empty(self, directory: Path) -> dict[str, Any]:
        self._run("DROP DATABASE IF EXISTS bench; CREATE DATABASE bench CHARACTER SET utf8mb4")
        return {"BENCH_DJANGO_DATABASE": self._entry | {"NAME": "bench"}}

    @override
    def connections(self) -> int | None:
        said = self._run("SHOW STATUS LIKE 'Threads_connected'").split()
        return int(said[1]) if said else None

    def _run(self, statements: str) -> str:
        socket = f"--socket={self._entry['HOST']}"
        options = "--no-defaults", socket, "--user=root", "--skip-column-names", "-e"
        return output("mariadb", *options, statements)


class SQLite(Store):
    """A file of its own for each run."""

    version = f"SQLite {sqlite3.sqlite_version}"  # the environments are made from the Python that runs this

    @override
    def empty(self, directory: Path) -> dict[str, Any]:
        return {"BENCH_DJANGO_DATABASE": entry_of_sqlite(directory)}


@contextmanager
def running(kind: str, *, durable: bool) -> Iterator[Store]:
    """Run a server of a kind."""
    with ExitStack() as stack:
        store = _started(stack, kind, durable=durable)
        stack.callback(store.close)
        yield store


def _started(stack: ExitStack, kind: str, *, durable: bool) -> Store:
    if kind == "valkey":
        addresses = stack.enter_context(servers.running("valkey"))
        return Valkey(_keeper(), addresses["TEST_VALKEY_URL"])
    entry = stack.enter_context(database(kind, durable=durable))
    if kind == "postgres":
        return Postgres(_keeper(), entry["HOST"])
    return MariaDB(_keeper(), entry) if kind == "mariadb" else SQLite(None)


def _keeper() -> psutil.Process:
    """Return the process that keeps the server, the last that was started."""
    keepers = [child for child in psutil.Process().children() if servers.__file__ in child.cmdline()]
    return max(keepers, key=psutil.Process.create_time)
