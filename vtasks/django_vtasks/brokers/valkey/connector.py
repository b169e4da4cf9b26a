"""From a URL to clients of the server that takes our keys."""

import os
from typing import Any
from urllib.parse import urlsplit

import valkey
import valkey.asyncio
from valkey.crc import key_slot
from valkey.exceptions import ValkeyError

from django_vtasks.errors import BrokerUnavailable, ConfigError

CONNECT_TIMEOUT = 3.0
"""Seconds for a connection to be made."""
DEADLINE = 4.0
"""Seconds for any call, waiting for a free connection included."""
CONNECTIONS = 16
"""Of a process's threads together, at most."""
LOOP_CONNECTIONS = 4
"""Of one event loop, at most, beside those that wait for news."""
SCHEMES = ("valkey", "valkeys", "redis", "rediss", "unix")

type Place = tuple[str, int]


class Connector:
    """Makes clients; in a cluster, of the primary that has the slot of ``prefix``, wherever it is now.

    ``url`` is that of a server, or of any node of the cluster. None of the clients repeats a call by itself: a push
    whose answer was lost may have been obeyed.
    """

    def __init__(self, url: str, prefix: str, *, is_cluster: bool = False) -> None:
        check_url(url)
        self._url = url
        self._slot = key_slot(prefix.encode())
        self._primary: Place | None = None
        self._nodes: list[Place] = []
        self.is_cluster = is_cluster
        if is_cluster:
            parts = urlsplit(url)
            if parts.scheme == "unix" or parts.path.strip("/") not in {"", "0"}:
                raise ConfigError("A Valkey cluster has neither database numbers nor a socket in the file system.")
            self._nodes = [(parts.hostname or "localhost", parts.port or 6379)]

    @property
    def address(self) -> str:
        """Return where the server is, without secrets."""
        parts = urlsplit(self._url)
        if self._primary is not None:
            return "{}:{}".format(*self._primary)
        if parts.scheme == "unix":
            return parts.path
        return f"{parts.hostname or 'localhost'}:{parts.port or 6379}{parts.path.rstrip('/')}"

    def client(self) -> valkey.Valkey:
        """Return a client for any number of threads."""
        pool = valkey.BlockingConnectionPool.from_url(
            self._url,
            max_connections=CONNECTIONS,
            timeout=DEADLINE,
            socket_timeout=DEADLINE,
            socket_connect_timeout=CONNECT_TIMEOUT,
            client_name=_name("sync"),
        )
        return valkey.Valkey(connection_pool=self._to_primary(pool))

    def async_client(self) -> valkey.asyncio.Valkey:
        """Return a client for the running loop, whose calls have no deadline of their own."""
        pool = valkey.asyncio.BlockingConnectionPool.from_url(
            self._url, max_connections=LOOP_CONNECTIONS, timeout=None, **_of_loop("async")
        )
        return valkey.asyncio.Valkey(connection_pool=self._to_primary(pool))

    def waiting_client(self) -> valkey.asyncio.Valkey:
        """Return a client for calls that block until there is news; each has a connection to itself."""
        pool = valkey.asyncio.ConnectionPool.from_url(self._url, **_of_loop("wait"))
        return valkey.asyncio.Valkey(connection_pool=self._to_primary(pool))

    def find_primary(self) -> None:
        """Ask the cluster who has our slot now; blocks until a node has answered, or none has."""
        for place in list(self._nodes):
            try:
                self._primary = self._ask(place)
            except (ValkeyError, OSError):
                continue
            if self._primary is not None:
                return
        if self.is_cluster:
            raise BrokerUnavailable(f"No node of the Valkey cluster at {self.address} tells who has the keys.")

    def _to_primary[T: Any](self, pool: T) -> T:
        if self._primary is not None:
            pool.connection_kwargs["host"], pool.connection_kwargs["port"] = self._primary
        return pool

    def _ask(self, place: Place) -> Place | None:
        pool = valkey.ConnectionPool.from_url(
            self._url,
            socket_timeout=CONNECT_TIMEOUT,
            socket_connect_timeout=CONNECT_TIMEOUT,
            client_name=_name("topology"),
        )
        pool.connection_kwargs["host"], pool.connection_kwargs["port"] = place
        try:
            ranges: Any = valkey.Valkey(connection_pool=pool).execute_command("CLUSTER SLOTS")
        finally:
            pool.disconnect()
        primary = None
        for first, last, *nodes in ranges:
            # A node that does not know its own address leaves it out: it is the one that was asked.
            places = [(host.decode() if host else place[0], int(port)) for host, port, *_ in nodes]
            self._nodes += [other for other in places if other not in self._nodes]
            if first <= self._slot <= last:
                primary = places[0]
        return primary


def check_url(url: object) -> None:
    """Raise ConfigError for what cannot be the URL of a server; the message shows no part that may be secret."""
    if not isinstance(url, str) or not url:
        raise ConfigError("BROKER_URL must be the URL of a Valkey server, such as valkey://localhost:6379/0.")
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ConfigError(
            f"BROKER_URL must begin with {', '.join(f'{scheme}://' for scheme in SCHEMES[:-1])} or unix://."
        )
    try:
        parts.port  # noqa: B018 - raises for what is no port
    except ValueError:
        raise ConfigError("BROKER_URL has no valid port; one looks like valkey://localhost:6379/0.") from None
    if parts.scheme != "unix" and not (parts.path.strip("/") or "0").isdecimal():
        raise ConfigError("BROKER_URL must end in a database number, such as valkey://localhost:6379/0.")


def _of_loop(purpose: str) -> dict[str, Any]:
    return {"socket_timeout": None, "socket_connect_timeout": CONNECT_TIMEOUT, "client_name": _name(purpose)}


def _name(purpose: str) -> str:
    return f"vtasks-{purpose}-{os.getpid()}"
