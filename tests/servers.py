"""Throw-away database servers for the tests, watched by a keeper process that ends them however the tests end.

Uses the standard library only: `script/servers` runs it before anything is installed.
"""

import contextlib
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0

# Where packagers put servers, beside PATH; the newest version is the last of a pattern's matches.
PLACES = (
    "/usr/sbin",
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec",
    "/opt/homebrew/opt/*/bin",
    "/usr/local/opt/*/bin",
)


class ServerError(Exception):
    """A server that is installed did not start; the message has its log."""


def find(program: str) -> str | None:
    """Return the path of an installed program."""
    found = [path for place in PLACES for path in Path("/").glob(f"{place[1:]}/{program}")]
    return shutil.which(program) or (str(max(found, key=_version)) if found else None)


def _version(path: Path) -> list[int]:
    return [int(digits) for digits in "".join(c if c.isdigit() else " " for c in str(path)).split()]


def unprivileged() -> dict[str, Any]:
    """Return the subprocess options that make root, whom PostgreSQL refuses, somebody else."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def hand_over(directory: Path) -> None:
    """Give a directory to the user that the servers run as."""
    shutil.chown(directory, unprivileged().get("user", os.geteuid()))


class Server(ABC):
    """One server with its data, socket and log in one directory; durability is traded for speed."""

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    ready: ClassVar[str]
    """What its log says once it accepts connections."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, directory: Path) -> None:
        self.directory = directory / self.name
        self.log = directory / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def is_installed(cls) -> bool:
        return all(find(program) for program in cls.programs)

    @abstractmethod
    def initialise(self) -> None:
        """Create the data directory."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line that runs the server in the foreground."""

    @abstractmethod
    def address(self) -> dict[str, str]:
        """Return the environment variable that tells the tests where it listens."""

    def start(self) -> dict[str, str]:
        self.initialise()
        self.run_until_ready()
        return self.address()

    def run_until_ready(self) -> None:
        self.process = self._popen(self.command())
        deadline = time.monotonic() + START_TIMEOUT
        while self.ready not in self.log.read_text(errors="replace"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"{self.name} did not start:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def run(self, *command: str) -> None:
        if self._popen(list(command)).wait(START_TIMEOUT) != 0:
            raise ServerError(f"{command[0]} failed:\n{self.log.read_text(errors='replace')}")

    def _popen(self, command: list[str]) -> subprocess.Popen[bytes]:
        program = find(command[0])
        assert program is not None, f"{command[0]} is not installed"
        # Nothing of the user's own configuration (PGPORT, a home directory with .my.cnf) applies here.
        environment = {"PATH": os.defpath, "LC_ALL": "C", "HOME": str(self.directory.parent)}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory.parent,
                env=environment,
                **unprivileged(),
            )


class PostgreSQL(Server):
    name = "postgres"
    programs = ("initdb", "postgres")
    ready = "database system is ready to accept connections"
    stop_signal = signal.SIGQUIT  # at once; what is not flushed is not needed

    def initialise(self) -> None:
        self.run(
            *("initdb", "--no-sync", "--no-instructions", "--auth=trust", "--username=vtasks"),
            *("--encoding=UTF8", "--locale=C", f"--pgdata={self.directory}"),
        )

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": self.directory,
            "max_connections": 200,
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        return ["postgres", "-D", str(self.directory), *(f"--{key}={value}" for key, value in settings.items())]

    def address(self) -> dict[str, str]:
        return {"TEST_POSTGRES_HOST": str(self.directory)}


class MariaDB(Server):
    name = "mariadb"
    programs = ("mariadbd", "mariadb-install-db")
    ready = "ready for connections"
    stop_signal = signal.SIGKILL  # a shutdown would spend a second on flushing what is deleted next

    def initialise(self) -> None:
        self._temporary.mkdir()
        hand_over(self._temporary)
        self.run(
            *("mariadb-install-db", "--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"),
            *("--innodb-flush-log-at-trx-commit=0", f"--datadir={self.directory}", f"--tmpdir={self._temporary}"),
        )

    def command(self) -> list[str]:
        return [
            *("mariadbd", "--no-defaults", "--skip-networking", "--skip-log-bin", "--skip-name-resolve"),
            *("--max-connections=200", "--character-set-server=utf8mb4", "--innodb-flush-log-at-trx-commit=0"),
            *("--innodb-use-native-aio=0", "--innodb-buffer-pool-size=128M"),
            *(f"--datadir={self.directory}", f"--socket={self._socket}", f"--pid-file={self.directory}/pid"),
            f"--tmpdir={self._temporary}",
        ]

    def address(self) -> dict[str, str]:
        return {"TEST_MARIADB_SOCKET": str(self._socket)}

    @property
    def _socket(self) -> Path:
        return self.directory / "socket"

    @property
    def _temporary(self) -> Path:
        """Return a directory of its own: a server that starts deletes the temporary tables of all in the same one."""
        return self.directory.with_name(f"{self.name}-temporary")


class DurablePostgreSQL(PostgreSQL):
    """As shipped, apart from where it listens: what the benchmarks run on."""

    name = "durable-postgres"

    def command(self) -> list[str]:
        return [
            *("postgres", "-D", str(self.directory), "--listen_addresses="),
            *(f"--unix_socket_directories={self.directory}", "--max_connections=200"),
        ]


class DurableMariaDB(MariaDB):
    """As shipped, apart from where it listens: what the benchmarks run on."""

    name = "durable-mariadb"

    def command(self) -> list[str]:
        return [option for option in super().command() if option != "--innodb-flush-log-at-trx-commit=0"]


class OnPort(Server):
    """A server that listens on a port of this host."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.choose_ports()

    def choose_ports(self) -> None:
        self.port = free_port()

    def run_until_ready(self) -> None:
        """Start, on another port when somebody else has taken it meanwhile."""
        try:
            super().run_until_ready()
        except ServerError as error:
            if "address already in use" not in str(error).lower():
                raise
            self.log.unlink()
            self.choose_ports()
            self.run_until_ready()

    def initialise(self) -> None:
        self.directory.mkdir()
        hand_over(self.directory)


class Valkey(OnPort):
    name = "valkey"
    programs = ("valkey-server",)
    ready = "Ready to accept connections"

    def command(self) -> list[str]:
        return [
            *("valkey-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"),
            *("--maxmemory-policy", "noeviction", "--dir", str(self.directory)),
        ]

    def address(self) -> dict[str, str]:
        return {"TEST_VALKEY_URL": f"valkey://127.0.0.1:{self.port}/0"}


class Redis(Valkey):
    name = "redis"
    programs = ("redis-server",)

    def command(self) -> list[str]:
        return [*self.programs, *super().command()[1:]]

    def address(self) -> dict[str, str]:
        return {"TEST_REDIS_URL": f"redis://127.0.0.1:{self.port}/0"}


class Prometheus(OnPort):
    """Scrapes, five times a second, what stands in its file of targets."""

    name = "prometheus"
    programs = ("prometheus", "promtool")
    ready = "Server is ready to receive web requests"

    def initialise(self) -> None:
        super().initialise()
        self.directory.chmod(0o755)
        self._config.write_text(
            "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
            "scrape_configs:\n"
            f"- {{job_name: vtasks, file_sd_configs: [{{files: ['{self._targets}'], refresh_interval: 1s}}]}}\n"
        )

    def command(self) -> list[str]:
        return [
            *("prometheus", f"--config.file={self._config}", f"--storage.tsdb.path={self.directory}"),
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def address(self) -> dict[str, str]:
        return {"TEST_PROMETHEUS_URL": f"http://127.0.0.1:{self.port}", "TEST_PROMETHEUS_TARGETS": str(self._targets)}

    @property
    def _config(self) -> Path:
        return self.directory / "prometheus.yml"

    @property
    def _targets(self) -> Path:
        return self.directory / "targets.json"


class _Node(Valkey):
    """A node of a cluster, which takes the place of one that has ended within few seconds."""

    stop_signal = signal.SIGKILL  # a shutdown would wait for replicas

    def __init__(self, directory: Path, number: int) -> None:
        super().__init__(directory)
        self.directory = directory / f"node{number}"
        self.log = directory / f"node{number}.log"

    def choose_ports(self) -> None:
        super().choose_ports()
        self.bus = free_port()

    def command(self) -> list[str]:
        return [
            *super().command(),
            *("--cluster-enabled", "yes", "--cluster-port", str(self.bus), "--cluster-node-timeout", "1000"),
            *("--cluster-config-file", "nodes.conf", "--repl-diskless-sync-delay", "0"),
        ]


class ValkeyCluster(Server):
    """Three primaries with a replica each."""

    name = "valkey-cluster"
    programs = ("valkey-server", "valkey-cli")
    ready = "[OK] All 16384 slots covered"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.nodes = [_Node(directory, number) for number in range(6)]

    def initialise(self) -> None:
        for node in self.nodes:
            node.initialise()

    def command(self) -> list[str]:
        places = (f"127.0.0.1:{node.port}@{node.bus}" for node in self.nodes)
        return ["valkey-cli", "--cluster", "create", *places, "--cluster-replicas", "1", "--cluster-yes"]

    def start(self) -> dict[str, str]:
        self.initialise()
        for node in self.nodes:
            node.run_until_ready()
        self.run(*self.command())
        return self.address()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def address(self) -> dict[str, str]:
        return {"TEST_VALKEY_CLUSTER_URLS": " ".join(f"valkey://127.0.0.1:{node.port}" for node in self.nodes)}


SERVERS: dict[str, type[Server]] = {kind.name: kind for kind in (PostgreSQL, MariaDB, Valkey, Redis, Prometheus)}
FOR_BENCHMARKS: dict[str, type[Server]] = {kind.name: kind for kind in (DurablePostgreSQL, DurableMariaDB)}
CLUSTERS: dict[str, type[Server]] = {kind.name: kind for kind in (ValkeyCluster,)}
DATABASES = ("postgres", "mariadb")
"""Those that the tests share; of the others each who needs one has one."""


def free_port() -> int:
    """Return a port that nobody listens to; none of those that the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def installed() -> list[str]:
    """Return the names of the servers that this machine can start."""
    return [name for name, kind in (SERVERS | CLUSTERS).items() if kind.is_installed()]


@contextlib.contextmanager
def running(*names: str) -> Iterator[dict[str, str]]:
    """Run servers for as long as the block lasts; yield the environment variables that say where they are."""
    keeper = subprocess.Popen(
        [sys.executable, __file__, *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the tests; the keeper then ends in good order
    )
    with keeper:  # closes its standard input at the end, and waits
        assert keeper.stdout is not None
        assert keeper.stderr is not None
        answer = keeper.stdout.readline()
        if not answer:
            raise ServerError(keeper.stderr.read())
        yield json.loads(answer)


def keep(names: list[str]) -> None:
    """Start servers, print where they are, and end them with their data when standard input closes.

    It closes when the tests close it and also when they die, by whatever signal.
    """
    signal.signal(signal.SIGTERM, _exit)
    with tempfile.TemporaryDirectory(prefix="vtasks-", ignore_cleanup_errors=True) as path:
        directory = Path(path)
        hand_over(directory)
        servers = [(SERVERS | FOR_BENCHMARKS | CLUSTERS)[name](directory) for name in names]
        with contextlib.ExitStack() as stack:
            for server in servers:
                stack.callback(server.stop)
            addresses = {"TEST_RUN_DIRECTORY": path}
            with ThreadPoolExecutor() as pool:
                for address in pool.map(lambda server: server.start(), servers):
                    addresses |= address
            print(json.dumps(addresses), flush=True)  # noqa: T201  # the answer to running()
            sys.stdin.read()


def _exit(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(1)


if __name__ == "__main__":
    if sys.argv[1:] == ["--missing"]:
        print(*(name for name in SERVERS if name not in installed()), sep="\n")  # noqa: T201  # for script/servers
    else:
        keep(sys.argv[1:])
