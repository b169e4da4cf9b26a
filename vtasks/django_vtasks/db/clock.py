"""The database's own clock, in microseconds since the epoch."""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BigIntegerField, Func, Value
from django.db.models.expressions import CombinedExpression

MICROSECONDS = 1_000_000

NOW = {
    "postgresql": "(extract(epoch from clock_timestamp()) * 1000000)::bigint",
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
    # UNIX_TIMESTAMP(NOW(6)) would go back an hour when the session's time zone leaves summer time.
    "mysql": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))",
}
"""The SQL expression for the present moment, by Django's vendor name."""


class Now(Func):
    """The present moment by the database's clock, for use in queries."""

    output_field = BigIntegerField()

    def as_sql(self, compiler: Any, connection: BaseDatabaseWrapper, *args: Any, **extra: Any) -> tuple[str, tuple[()]]:
        """Return the expression of the connection's vendor."""
        return NOW[connection.vendor], ()


def from_now(seconds: float) -> CombinedExpression:
    """Return a moment to come by the database's clock, for use in queries."""
    # Without its type a value travels in 32 bits where the project binds on the server, which 36 minutes exceed.
    return Now() + Value(round(seconds * MICROSECONDS), output_field=BigIntegerField())


def microseconds(seconds: float | None) -> int | None:
    """Return whole microseconds; None stays None."""
    return None if seconds is None else round(seconds * MICROSECONDS)
