"""A store under fault: without a server, or with one of the run's own that is killed, frozen and started again."""

import contextlib
import signal
from pathlib import Path
from typing import Any, ClassVar, override

import psutil

from load_tests.stage import entry_of_sqlite
from tests import servers
from tests.integration.probes import eventually
from tests.integration.proxies import HOST, Proxy


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
        return {"DATABASES": {"default": self.sqlite()}, "TASKS": tasks_of("db.DatabaseTaskBackend")}

    def line(self, host: str = HOST) -> Proxy:
        """Make a way to the server that can be cut."""
        raise NotImplementedError

    def connections(self) -> int:
        """Return how many connections of clients the server has, but the one that asks."""
        return 0

    def sqlite(self) -> dict[str, Any]:
        """Return the settings of a database that is a file."""
        return entry_of_sqlite(self.directory)


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
        """Return the server's processes; none where it has not come to start."""
        if self.server.process is None:
            return []
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


def tasks_of(backend: str, **options: Any) -> dict[str, Any]:
    """Return the setting TASKS for one of the package's backends."""
    return {"default": {"BACKEND": f"django_vtasks.backends.{backend}", **options}}
