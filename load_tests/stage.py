"""A place to measure in: a server of its own, a migrated database, and worker processes on it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests import servers

_VERSIONS = {
    "sqlite": ("SQLite", "SELECT sqlite_version()"),
    "postgresql": ("PostgreSQL", "SHOW server_version"),
    "mysql": ("MariaDB", "SELECT version()"),
}
READY_TIMEOUT = 30.0
STOP_TIMEOUT = 60.0


class WorkerReport(NamedTuple):
    """What the actors of a worker say at their end: seconds of work, of CPU, and per measured task."""

    seconds: float
    cpu_seconds: float
    latencies: list[float]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Add up the lines that the actors have written."""
        actors = [json.loads(line) for line in path.read_text().splitlines()]
        return cls(
            seconds=max(actor["ended"] for actor in actors) - min(actor["began"] for actor in actors),
            cpu_seconds=sum(actor["cpu_seconds"] for actor in actors),
            latencies=[seconds for actor in actors for seconds in actor["latencies"]],
        )


@contextlib.contextmanager
def backend(kind: str, *, durable: bool) -> Iterator[dict[str, Any]]:
    """Run a server of a kind; yield the settings that make tasks go there."""
    if kind != "valkey":
        with database(kind, durable=durable) as entry:
            yield {"DATABASES": {"default": entry}, "TASKS": _tasks("db.DatabaseTaskBackend")}
        return
    with database("sqlite", durable=durable) as entry, servers.running("valkey") as addresses:
        options = {"BROKER_URL": addresses["TEST_VALKEY_URL"]}
        yield {"DATABASES": {"default": entry}, "TASKS": _tasks("valkey.ValkeyTaskBackend", OPTIONS=options)}


def _tasks(backend: str, **options: Any) -> dict[str, Any]:
    return {"default": {"BACKEND": f"django_vtasks.backends.{backend}", **options}}


@contextlib.contextmanager
def database(kind: str, *, durable: bool) -> Iterator[dict[str, Any]]:
    """Run a server of a kind; yield Django's DATABASES entry.

    Unless ``durable``, the server does not wait for the disk, so that the figures are ours and not the disk's.
    """
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="vtasks-load-") as directory:
            yield entry_of_sqlite(Path(directory))
        return
    with servers.running(f"durable-{kind}" if durable else kind) as addresses:
        if kind == "postgres":
            host = addresses["TEST_POSTGRES_HOST"]
            yield {"ENGINE": "django.db.backends.postgresql", "HOST": host, "USER": "vtasks", "NAME": "postgres"}
        else:
            yield {
                "ENGINE": "django.db.backends.mysql",
                "HOST": addresses["TEST_MARIADB_SOCKET"],
                "USER": "root",
                "NAME": "mysql",
                "OPTIONS": {"charset": "utf8mb4"},
            }


def entry_of_sqlite(directory: Path) -> dict[str, Any]:
    """Return Django's DATABASES entry of a file in a directory."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": f"{directory}/db.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 5,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }


def set_up(settings: dict[str, Any]) -> None:
    """Set Django up in this process, and make the tables."""
    os.environ["LOAD_TEST_SETTINGS"] = json.dumps(settings)
    os.environ["DJANGO_SETTINGS_MODULE"] = "load_tests.settings"
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def server(settings: Mapping[str, Any]) -> str:
    """Return the name and the version of the server that has the tasks; Django is set up."""
    from django.db import connection

    if url := settings["TASKS"]["default"].get("OPTIONS", {}).get("BROKER_URL"):
        import valkey

        return f"Valkey {valkey.Valkey.from_url(url).info('server')['valkey_version']}"
    name, statement = _VERSIONS[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(statement)
        (version,) = cursor.fetchone()
    return f"{name} {version}"


class Worker:
    """A ``runworker`` process of its own."""

    def __init__(self, *options: str, own_session: bool = False) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="vtasks-load-")
        self._report = Path(self._directory.name) / "report.json"
        self.began_at = time.time()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "django", "runworker", "--verbosity=0", *options],
            env=os.environ | {"LOAD_TEST_REPORT": str(self._report)},
            stdout=subprocess.DEVNULL,
            start_new_session=own_session,
        )

    def wait_until_started(self) -> None:
        """Return when the worker takes tasks."""
        deadline = time.monotonic() + READY_TIMEOUT
        while not self._report.with_suffix(".started").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("The worker did not start.")
            time.sleep(0.01)

    def finish(self, timeout: float) -> WorkerReport:
        """Wait for the worker to end by itself."""
        self.process.wait(timeout)
        report = WorkerReport.read(self._report)
        self._directory.cleanup()
        return report

    def stop(self) -> WorkerReport:
        """End the worker."""
        self.process.send_signal(signal.SIGTERM)
        return self.finish(STOP_TIMEOUT)
