"""A Valkey in the hands of a test: it is frozen, ended, started again, closed to strangers."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import valkey
from valkey.exceptions import ValkeyError

from tests import servers
from tests.integration.probes import eventually


class OwnValkey:
    """A server that belongs to one test."""

    def __init__(self, addresses: dict[str, str]) -> None:
        self.url = addresses["TEST_VALKEY_URL"]
        self._directory = Path(addresses["TEST_RUN_DIRECTORY"])
        self._again: servers.Valkey | None = None
        self._password: str | None = None
        self._process = self._find_process()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].partition("/")[0])

    @property
    def data(self) -> Path:
        """The directory in which it keeps its data."""
        return self._directory / servers.Valkey.name

    @contextlib.contextmanager
    def client(self) -> Iterator[valkey.Valkey]:
        with valkey.Valkey.from_url(self.url, password=self._password) as client:
            yield client

    def configure(self, **settings: object) -> None:
        with self.client() as client:
            for name, value in settings.items():
                client.config_set(name, value)
                if name == "requirepass":
                    self._password = str(value)

    def keep_data(self, appendfsync: str = "always") -> None:
        """Let the server write what it acknowledges to its disk: first, or as the setting says."""
        self.configure(appendfsync=appendfsync, appendonly="yes")
        with self.client() as client:
            eventually(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the file is begun")

    def freeze(self) -> None:
        """Stop the server; its sockets stay open and the kernel still accepts connections."""
        self._process.suspend()

    def thaw(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.resume()

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(number)
        if self._again is not None:
            self._again.stop()
        eventually(lambda: not _lives(self._process), "Valkey has ended")

    def start(self) -> None:
        """Start the server on the data that it left, if it had to keep any."""
        self.launch()
        self.until_it_answers()

    def launch(self, *options: str) -> None:
        """Start the server as start() does; return before it has loaded the data."""
        self._again = servers.Valkey(self._directory)
        self._again.port = self.port
        self._again.process = self._again._popen([*self._again.command(), "--appendonly", "yes", *options])
        self._process = psutil.Process(self._again.process.pid)

    def until_it_answers(self) -> None:
        eventually(self._answers, "Valkey answers again")

    def close(self) -> None:
        self.thaw()
        if self._again is not None:
            self._again.stop()

    def _find_process(self) -> psutil.Process:
        with self.client() as client:
            return psutil.Process(client.info("server")["process_id"])

    def _answers(self) -> bool:
        with contextlib.suppress(ValkeyError), self.client() as client:
            return bool(client.ping())
        return False


@contextlib.contextmanager
def own_valkey() -> Iterator[OwnValkey]:
    with servers.running("valkey") as addresses:
        server = OwnValkey(addresses)
        try:
            yield server
        finally:
            server.close()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
