"""PostgreSQL with a standby that has what was acknowledged, and takes over when the primary is lost."""

import os
import shutil
import signal
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, override

from load_tests.chaos.grounds import CLIENTS, PostgresGround
from tests import servers
from tests.integration.probes import eventually
from tests.integration.proxies import HOST, Proxy

STANDBY = "walreceiver"
"""What a standby calls itself unless it is told otherwise."""
IN_STEP = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'"
SENDER = "SELECT pid FROM pg_stat_replication"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


class _Member(servers.OnPort, servers.DurablePostgreSQL):
    """A server on a port of this host, with data of its own or as a standby."""

    ready = "database system is ready to accept"  # connections, or read-only connections

    def __init__(self, directory: Path, name: str = "primary") -> None:
        super().__init__(directory)
        self.directory = directory / name
        self.log = directory / f"{name}.log"

    @override
    def initialise(self) -> None:
        servers.DurablePostgreSQL.initialise(self)

    @override
    def command(self) -> list[str]:
        return [*super().command(), f"--listen_addresses={HOST}", f"--port={self.port}"]

    def follow(self, primary: "_Member") -> None:
        """Begin anew as a standby, for which the primary keeps what it has not sent."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.log.unlink(missing_ok=True)
        self.run(
            *("pg_basebackup", "--no-sync", "--checkpoint=fast", "--username=vtasks", f"--pgdata={self.directory}"),
            *(f"--host={HOST}", f"--port={primary.port}"),
            *("--write-recovery-conf", "--create-slot", f"--slot={self.directory.name}"),
        )
        self.run_until_ready()

    def promote(self) -> None:
        """End as a standby, and accept writes."""
        self.run("pg_ctl", "promote", f"--pgdata={self.directory}")

    def ask(self, *statements: str) -> Any:
        """Execute statements; return the first value of the last."""
        import psycopg

        address = f"host={HOST} port={self.port} user=vtasks dbname=postgres"
        with closing(psycopg.connect(address, autocommit=True)) as connection:
            *others, last = statements
            for statement in others:
                connection.execute(statement.encode())
            row = connection.execute(last.encode()).fetchone()
            return row and row[0]


class PairGround(PostgresGround):
    """A primary whose commits wait for a standby; clients know both, and take the one that accepts writes."""

    server_class = _Member
    server: _Member

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.members = (self.server, _Member(directory, "standby"))
        self.standby = self.members[1]

    @override
    def start(self) -> None:
        super().start()
        self.attach()

    @override
    def close(self) -> None:
        self.standby.stop()
        super().close()

    def hold_back(self) -> None:
        """Let the primary send nothing more to the standby, so that commits wait for it."""
        os.kill(self.server.ask(SENDER), signal.SIGSTOP)

    def waiting(self) -> int:
        """Return how many commits wait for the standby."""
        return int(self.server.ask(WAITING))

    def kill(self) -> None:
        """End all processes of the primary at once, as when its host goes."""
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGSTOP)  # it starts none while they are looked up
        self._signal_all(signal.SIGKILL)
        self.server.process.wait(30.0)

    def promote(self) -> None:
        """Let the standby take over; it waits for no standby of its own."""
        self.standby.promote()
        self.server, self.standby = self.standby, self.server
        eventually(self.answers, "the promoted standby answers", within=30.0)

    def attach(self) -> None:
        """Make a standby of the one that was lost; from then on commits wait for it."""
        self.standby.follow(self.server)
        self.server.ask(f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'", "SELECT pg_reload_conf()")
        eventually(lambda: self.server.ask(IN_STEP) == 1, "the standby is in step", within=30.0)

    @override
    def settings(self, line: Proxy | None = None) -> dict[str, Any]:
        found = super().settings(line)
        found["DATABASES"]["default"] |= {
            "HOST": ",".join([HOST] * len(self.members)),
            "PORT": ",".join(str(member.port) for member in self.members),
            "OPTIONS": {"target_session_attrs": "read-write"},
        }
        return found

    @override
    def line(self, host: str = HOST) -> Proxy:
        raise NotImplementedError

    @override
    def connections(self) -> int:
        return int(self.server.ask(CLIENTS))

    @override
    def answers(self) -> bool:
        import psycopg

        with suppress(psycopg.OperationalError):
            return self.server.ask("SELECT pg_is_in_recovery()") is False
        return False
