"""Django's vendor name → our dialect and wake-up."""

from typing import NamedTuple

from django.db import connections

from django_vtasks.brokers.database.dialect import Dialect
from django_vtasks.brokers.database.wakeup import DataVersion, Listener, Polling, Wakeup
from django_vtasks.errors import ConfigError


class Vendor(NamedTuple):
    """How to talk to one kind of database."""

    dialect: Dialect
    wakeup: Wakeup


def vendor_of(using: str) -> Vendor:
    """Return the parts for the database behind an alias; drivers are imported only here."""
    match connections[using].vendor:
        case "postgresql":
            from django_vtasks.brokers.database.postgresql import CHANNEL, PostgreSQL

            return Vendor(PostgreSQL(), Listener(using, CHANNEL))
        case "sqlite":
            from django_vtasks.brokers.database.sqlite import SQLite

            return Vendor(SQLite(), DataVersion(using))
        case "mysql":
            from django_vtasks.brokers.database.mysql import MySQL

            return Vendor(MySQL(), Polling())
        case other:
            raise ConfigError(f"The database backend runs on PostgreSQL, MariaDB, MySQL and SQLite, not on {other}.")
