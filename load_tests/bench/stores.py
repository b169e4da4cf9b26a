"""Where tasks are kept: a server of its own for the whole benchmark, emptied for each run."""

import re
import sqlite3
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, override
from urllib.parse import urlsplit

import psutil

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

    @abstractmethod
    def empty(self, directory: Path) -> dict[str, Any]:
        """Empty it; return what tells a contender where it is, by name. A database of Django's is always there."""

    def connections(self) -> int | None:
        """Return how many clients are connected."""
        return None

    def yardstick(self) -> dict[str, float]:
        """Return what a plain benchmark of the server's own makes on this machine now.

        These machines differ, and change, in speed: a figure means little without it.
        """
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
        self._client = valkey.Valkey.from_url(url)
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
        port = str(urlsplit(self._url).port)
        output = _output("valkey-benchmark", "-p", port, "-P", "50", "-n", "500000", "-t", "lpush", "--csv")
        return {"lpush/s": float(output.splitlines()[-1].split(",")[1].strip('"'))} if output else {}


class Postgres(Store):
    """A database of its own for each run."""

    def __init__(self, keeper: psutil.Process, host: str) -> None:
        super().__init__(keeper)
        import psycopg

        self._host = host
        self._connection = psycopg.connect(host=host, user="vtasks", dbname="postgres", autocommit=True)
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
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write("SELECT 1;\n")
            script.flush()
            options = ("-h", self._host, "-U", "vtasks", "-n", "-f", script.name, "-T", "2", "postgres")
            output = _output("pgbench", *options)
        found = re.search(r"^tps = ([0-9.]+)", output, re.MULTILINE)
        return {"selects/s": float(found[1])} if found else {}


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

    def _run(self, statements: str) -> str:
        socket = f"--socket={self._entry['HOST']}"
        return _output("mariadb", "--no-defaults", socket, "--user=root", "--skip-column-names", "-e", statements)


class SQLite(Store):
    """A file of its own for each run."""

    version = f"SQLite {sqlite3.sqlite_version}"  # the environments are made from the Python that runs this

    @override
    def empty(self, directory: Path) -> dict[str, Any]:
        return {"BENCH_DJANGO_DATABASE": entry_of_sqlite(directory)}


@contextmanager
def running(kind: str, *, durable: bool) -> Iterator[Store]:
    """Run a server of a kind."""
    if kind == "valkey":
        with servers.running("valkey") as addresses:
            yield Valkey(_keeper(), addresses["TEST_VALKEY_URL"])
        return
    with database(kind, durable=durable) as entry:
        if kind == "postgres":
            yield Postgres(_keeper(), entry["HOST"])
        elif kind == "mariadb":
            yield MariaDB(_keeper(), entry)
        else:
            yield SQLite(None)


def _keeper() -> psutil.Process:
    """Return the process that keeps the server, the last that was started."""
    keepers = [child for child in psutil.Process().children() if servers.__file__ in child.cmdline()]
    return max(keepers, key=psutil.Process.create_time)


def _output(program: str, *arguments: str) -> str:
    path = servers.find(program)
    if path is None:
        return ""
    done = subprocess.run([path, *arguments], check=True, capture_output=True, text=True, timeout=60.0)
    return done.stdout
