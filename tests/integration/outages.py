"""What can happen between a worker and its database: a server that stops or freezes, a line that goes dead."""

import contextlib
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
from django.db import OperationalError, connections

from tests import servers
from tests.integration.probes import eventually

POSTGRES_SOCKET = ".s.PGSQL.5432"


class OwnPostgreSQL:
    """A PostgreSQL of the test's own, durable, in the hands of the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._again: servers.DurablePostgreSQL | None = None

    def processes(self) -> list[psutil.Process]:
        postmaster = psutil.Process(int((self.directory / "postmaster.pid").read_text().split()[0]))
        return [postmaster, *postmaster.children(recursive=True)]

    def freeze(self) -> None:
        """Stop every process; the sockets stay open and the kernel still accepts connections."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def stop(self) -> None:
        """End the server as a crash would: without a word to its clients."""
        self.processes()[0].send_signal(signal.SIGQUIT)
        eventually(lambda: not (self.directory / "postmaster.pid").exists(), "PostgreSQL has ended")
        if self._again is not None:
            self._again.stop()

    def start(self) -> None:
        """Start the server on the data that it left."""
        self._again = servers.DurablePostgreSQL(self.directory.parent)
        self._again.process = self._again._popen(self._again.command())
        eventually(self._accepts, "PostgreSQL accepts connections again")

    def close(self) -> None:
        if self._again is not None:
            self._again.stop()

    def _accepts(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(host=str(self.directory), user="vtasks", dbname="postgres").close()
            return True
        return False


class Line:
    """A directory in which clients find PostgreSQL's socket: a way to the server that can be cut and goes dead."""

    def __init__(self, server: str) -> None:
        self._target = f"{server}/{POSTGRES_SOCKET}"
        self.directory = Path(tempfile.mkdtemp(prefix="line-"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.directory / POSTGRES_SOCKET))
        (self.directory / POSTGRES_SOCKET).chmod(0o777)
        self._listener.listen()
        self._calls: list[_Call] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow_answers(self, beginning_with: bytes = b"") -> None:
        """On the connections that are open, let no answer arrive any more, from the one on with these bytes in it."""
        for call in self._calls:
            call.omens = (beginning_with, beginning_with.hex().encode())

    def go_dead(self) -> None:
        """On the connections that are open, let nothing arrive at either end; they stay open."""
        for call in self._calls:
            call.deaf = call.dumb = True

    def close(self) -> None:
        # close() alone does not wake a thread in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for call in self._calls:
            call.close()
        shutil.rmtree(self.directory)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._calls.append(_Call(client, self._target))


class _Call:
    """One connection: two threads that carry bytes."""

    def __init__(self, client: socket.socket, target: str) -> None:
        self.omens: tuple[bytes, ...] = ()
        self.deaf = False
        self.dumb = False
        self._client = client
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(target)
        for carry in (self._ask, self._answer):
            threading.Thread(target=carry, daemon=True).start()

    def close(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _ask(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._client.recv(65536):
                if not self.dumb:
                    self._server.sendall(data)
            self.close()

    def _answer(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._server.recv(65536):
                self.deaf = self.deaf or any(omen in data for omen in self.omens)
                if not self.deaf:
                    self._client.sendall(data)
            if not self.deaf:
                self.close()


@contextlib.contextmanager
def missing_socket(server: str) -> Iterator[Path]:
    """Yield a path where there is no server yet; making it a link to ``server`` puts one there."""
    with tempfile.TemporaryDirectory(prefix="down-") as directory:
        Path(directory).chmod(0o755)
        assert Path(server).exists()
        yield Path(directory) / Path(server).name


def backends(alias: str) -> dict[int, str]:
    """Return the connections to this test's database that others have, by the server's id, with their last query."""
    connection = connections[alias]
    statement = {
        "postgresql": "SELECT pid, query FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
        "mysql": "SELECT id, COALESCE(info, '') FROM information_schema.processlist WHERE db = database()"
        " AND id <> CONNECTION_ID()",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return dict(cursor.fetchall())


def kill_backend(alias: str, backend: int) -> int:
    """End a connection from the server's side; return 1, or 0 when it had ended by itself."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_terminate_backend(%s)", [backend])
            return int(cursor.fetchone()[0])
        with contextlib.suppress(OperationalError):
            cursor.execute("KILL %s", [backend])
            return 1
    return 0
