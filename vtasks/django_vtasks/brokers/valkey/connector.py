"""From a URL to clients of the server that takes our keys."""

import os
import re
import time
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import valkey
import valkey.asyncio
from valkey.crc import key_slot
from valkey.exceptions import ResponseError, ValkeyError

from django_vtasks.brokers.valkey.threads import Within, timed
from django_vtasks.errors import BrokerUnavailable, ConfigError

CONNECT_TIMEOUT = 3.0
"""Seconds for a connection to an address to be made."""
DEADLINE = 4.0
"""Seconds for any answer."""
IN_ALL = 4.5
"""Seconds for a call of a thread, with all that comes before: a free connection, a name's address, a new primary."""
ASK_TIMEOUT = 1.0
"""Seconds that a node of a cluster has for each step until it has said who has which slots."""
FIND_WITHIN = 4.0
"""Seconds that all nodes together have for that."""
FREE_WITHIN = 1.0
"""Seconds for a connection of threads to become free."""
NO_INTRODUCTION: dict[str, Any] = {"lib_name": None, "lib_version": None}
"""What the driver would tell of itself takes two round trips."""
IDLE = 60.0
"""Seconds without use after which a connection is replaced before it is used again."""
CONNECTIONS = 16
"""Of a process's threads together, at most."""
TLS_SCHEMES = ("valkeys", "rediss")
SCHEMES = ("valkey", "valkeys", "redis", "rediss", "unix")
OPTIONS = {
    *("db", "username", "password", "socket_keepalive"),
    *(
        "ssl_keyfile",
        "ssl_certfile",
        "ssl_cert_reqs",
        "ssl_ca_certs",
        "ssl_ca_data",
        "ssl_check_hostname",
        "ssl_ciphers",
    ),
}
"""What may follow the URL's question mark; the rest would undo what is decided here."""

type Place = tuple[str, int]


class Connector:
    """Makes clients; in a cluster, of the primary that has the slot of ``prefix``, wherever it is now.

    ``url`` is that of a server, or of any node of the cluster. None of the clients repeats a call by itself: a push
    whose answer was lost may have been obeyed.
    """

    def __init__(self, url: str, prefix: str, *, is_cluster: bool = False) -> None:
        check_url(url)
        self._url = url
        self._options = NO_INTRODUCTION | _tls_of(url)
        self._slot = key_slot(prefix.encode())
        self._primary: Place | None = None
        self._nodes: list[Place] = []
        self.is_cluster = is_cluster
        if is_cluster:
            if not re.search(r"\{[^{}]+\}", prefix):
                raise ConfigError(
                    f"In a cluster VTASKS_VALKEY_PREFIX must have a part in braces, such as '{{vt}}', which puts all "
                    f"keys on one node; it is {prefix!r}."
                )
            parts = urlsplit(url)
            if parts.scheme == "unix" or parts.path.strip("/") not in {"", "0"}:
                raise ConfigError("A Valkey cluster has neither database numbers nor a socket in the file system.")
            self._given: Place = (parts.hostname or "localhost", parts.port or 6379)
            self._nodes = [self._given]

    @property
    def address(self) -> str:
        """Return where the server is, without secrets."""
        parts = urlsplit(self._url)
        if self._primary is not None:
            return "{}:{}".format(*self._primary)
        if parts.scheme == "unix":
            return parts.path
        return f"{parts.hostname or 'localhost'}:{parts.port or 6379}{parts.path.rstrip('/')}"

    def pool_of_threads(self) -> valkey.ConnectionPool:
        """Return what makes connections for threads."""
        pool = valkey.ConnectionPool.from_url(
            self._url,
            socket_timeout=DEADLINE,
            socket_connect_timeout=CONNECT_TIMEOUT,
            client_name=_name("sync"),
            **self._options,
        )
        return self._to_primary(timed(pool))

    def pool(self, purpose: str) -> valkey.asyncio.ConnectionPool:
        """Return what makes connections for event loops, whose calls have no deadline of their own."""
        pool = valkey.asyncio.ConnectionPool.from_url(
            self._url,
            socket_timeout=None,
            socket_connect_timeout=CONNECT_TIMEOUT,
            client_name=_name(purpose),
            **self._options,
        )
        return self._to_primary(pool)

    def find_primary(self) -> None:
        """Ask the cluster who has our slot now; blocks until a node has answered, or none has.

        The next time another node is asked first: one that is cut off from the others knows old news only.
        """
        with Within(FIND_WITHIN):
            self._find_primary(time.monotonic() + FIND_WITHIN - ASK_TIMEOUT)

    def _find_primary(self, until: float) -> None:
        silence: Exception = BrokerUnavailable("No node of the Valkey cluster says who has the keys.")
        for place in list(self._nodes):
            primary, nodes = None, self._nodes
            try:
                primary, nodes = self._ask(place)
            except (ValkeyError, OSError) as error:
                silence = error
            # The one of the URL may be a name that leads to others one day.
            self._nodes = [node for node in dict.fromkeys((*nodes, self._given)) if node != place] + [place]
            if primary is not None:
                self._primary = primary
                return
            if time.monotonic() > until:
                break
        raise silence

    def _to_primary[T: Any](self, pool: T) -> T:
        if self._primary is not None:
            pool.connection_kwargs["host"], pool.connection_kwargs["port"] = self._primary
        return pool

    def _ask(self, asked: Place) -> tuple[Place | None, list[Place]]:
        """Return the primary that has our slot, in the eyes of one node, and all nodes."""
        pool = valkey.ConnectionPool.from_url(
            self._url,
            socket_timeout=ASK_TIMEOUT,
            socket_connect_timeout=ASK_TIMEOUT,
            client_name=_name("topology"),
            **self._options,
        )
        timed(pool)
        pool.connection_kwargs["host"], pool.connection_kwargs["port"] = asked
        try:
            ranges: Any = valkey.Valkey(connection_pool=pool).execute_command("CLUSTER", "SLOTS")
        except ResponseError as error:
            if "cluster support disabled" not in str(error):
                raise
            raise ConfigError(
                f"Valkey at {self.address} is no node of a cluster: leave OPTIONS['CLUSTER_MODE'] out."
            ) from error
        finally:
            pool.disconnect()
        primary, known = None, []
        for first, last, *nodes in ranges:
            # A node that does not know its own address leaves it out: it is the one that was asked.
            places = [(host.decode() if host else asked[0], int(port)) for host, port, *_ in nodes]
            known += places
            if first <= self._slot <= last:
                primary = places[0]
        return primary, known


def check_url(url: object) -> None:
    """Raise ConfigError for what cannot be the URL of a server; the message shows no part that may be secret."""
    if not isinstance(url, str) or not url:
        raise ConfigError("BROKER_URL must be the URL of a Valkey server, such as valkey://localhost:6379/0.")
    try:
        parts = urlsplit(url)
        _ = parts.hostname
    except ValueError:  # whose message may hold a part of the password
        raise ConfigError(
            "BROKER_URL is not the URL of a Valkey server; in a user name or password, what is neither letter nor "
            "digit must be written as %XX."
        ) from None
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
    _check_options(parts.query)


def _check_options(query: str) -> None:
    for option, value in parse_qsl(query):
        if option not in OPTIONS:
            name = "an option" if "@" in query else f"the option {option!r}"
            raise ConfigError(f"BROKER_URL must not have {name}; known are {', '.join(sorted(OPTIONS))}.")
        if option == "db" and not value.isdecimal():
            raise ConfigError(f"BROKER_URL has the option {option!r}, which must be a number.")


def _tls_of(url: str) -> dict[str, Any]:
    """Return what the driver leaves out of a check of certificates: whether it is that host's. The URL may say no."""
    parts = urlsplit(url)
    is_checked = dict(parse_qsl(parts.query)).get("ssl_cert_reqs", "required").lower() == "required"
    return {"ssl_check_hostname": True} if parts.scheme in TLS_SCHEMES and is_checked else {}


def _name(purpose: str) -> str:
    return f"vtasks-{purpose}-{os.getpid()}"
