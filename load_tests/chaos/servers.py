"""What an operator can do to the connections of a server, by its kind."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from load_tests.chaos.ground import Ground
from load_tests.chaos.grounds import ValkeyGround

FEW = 3


class Held(NamedTuple):
    """How many connections are held, and how many of others were ended for it."""

    connections: int
    killed: int


def kill_connections(ground: Ground) -> int:
    """End all connections but those of this process; return how many there were."""
    if isinstance(ground, ValkeyGround):
        with ground.client() as client:
            return _kill_clients(client)
    return len(kill_backends())


def kill_backends() -> list[int]:
    """End all connections to the database but those of this process; return which there were."""
    from django.db import DatabaseError, connection

    from tests.integration.outages import backends, kill_backend

    with connection.cursor():
        found = list(backends("default"))
        for backend in found:
            with contextlib.suppress(DatabaseError):  # it may have ended by itself
                kill_backend("default", backend)
        return found


@contextlib.contextmanager
def held_connections(ground: Ground) -> Iterator[Held]:
    """Leave no connection to anybody else while the block lasts."""
    with contextlib.ExitStack() as stack:
        yield {"valkey": _hold_valkey, "postgres": _hold_postgres, "mariadb": _hold_mariadb}[ground.kind](ground, stack)


def _kill_clients(client: Any) -> int:
    return int(client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))


def _hold_valkey(ground: Any, stack: contextlib.ExitStack) -> Held:
    import valkey

    client = stack.enter_context(ground.client())
    stack.callback(client.config_set, "maxclients", 10_000)
    client.config_set("maxclients", FEW)
    killed = _kill_clients(client)
    refused = valkey.exceptions.ConnectionError
    return Held(_open(lambda: stack.enter_context(ground.client()).ping(), refused), killed)


def _hold_postgres(ground: Any, stack: contextlib.ExitStack) -> Held:
    import psycopg

    def take() -> None:
        connection = psycopg.connect(host=str(ground.server.directory), user="vtasks", dbname="postgres")
        stack.callback(connection.close)

    killed = kill_connections(ground)
    return Held(_open(take, psycopg.OperationalError), killed)


def _hold_mariadb(ground: Any, stack: contextlib.ExitStack) -> Held:
    import MySQLdb
    from django.db import connection

    def limit(number: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET GLOBAL max_connections = %s", [number])

    def take() -> None:
        stack.callback(
            MySQLdb.connect(unix_socket=ground.settings()["DATABASES"]["default"]["HOST"], user="root").close
        )

    limit(10)  # the least there is
    stack.callback(limit, 200)
    killed = kill_connections(ground)
    return Held(_open(take, MySQLdb.OperationalError), killed)


def _open(take: Callable[[], object], refused: type[Exception]) -> int:
    """Open connections until the server refuses; return how many."""
    count = 0
    with contextlib.suppress(refused):
        while count < 1000:  # noqa: PLR2004 - none has so many
            take()
            count += 1
    return count
