"""Django's vendor name → our dialect and wake-up."""

from typing import NamedTuple

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_vtasks.brokers.database.dialect import Dialect
from django_vtasks.brokers.database.wakeup import DataVersion, Listener, Polling, Wakeup
from django_vtasks.errors import ConfigError


class Vendor(NamedTuple):
    """How to talk to one kind of database."""

    dialect: Dialect
    wakeup: Wakeup
    connections: int = 1
    """That a broker opens: one for its calls, and one where it is told of news."""


def vendor_of(using: str) -> Vendor:
    """Return the parts for the database behind an alias; drivers are imported only here."""
    match connections[using].vendor:
        case "postgresql":
            from django_vtasks.brokers.database.postgresql import CHANNEL, PostgreSQL

            return Vendor(PostgreSQL(), Listener(using, CHANNEL), connections=2)
        case "sqlite":
            from django_vtasks.brokers.database.sqlite import SQLite

            return Vendor(SQLite(), DataVersion(using), connections=2)
        case "mysql":
            from django_vtasks.brokers.database.mysql import MySQL

            return Vendor(MySQL(), Polling())
        case other:
            raise ConfigError(f"The database backend runs on PostgreSQL, MariaDB, MySQL and SQLite, not on {other}.")


_LIMITS = {"postgresql": "SHOW max_connections", "mysql": "SELECT @@max_connections"}


def connection_limit(connection: BaseDatabaseWrapper) -> int | None:
    """Return how many connections the server allows in all; None when there is no server."""
    if connection.vendor not in _LIMITS:
        return None
    with connection.cursor() as cursor:
        cursor.execute(_LIMITS[connection.vendor])
        return int(cursor.fetchone()[0])
