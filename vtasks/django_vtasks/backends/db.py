"""Tasks in the project's own database: SQLite, PostgreSQL, MariaDB, MySQL."""

from functools import cache
from typing import Any

from django.apps import apps
from django.core import checks
from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS, connections, router

from django_vtasks import conf
from django_vtasks.backends.base import BrokerBackend
from django_vtasks.brokers.database import DatabaseBroker


class DatabaseTaskBackend(BrokerBackend):
    """Enqueue into the caller's transaction; OPTIONS may name the ``DATABASE`` alias to use."""

    valid_options = frozenset({"DATABASE"})

    @property
    def broker(self) -> DatabaseBroker:
        """Return the process's broker for the database that the option or the project's router names."""
        return _broker(self.database, conf.current().dlq_cap)

    @property
    def database(self) -> str:
        """Return the alias of the database where the tasks are."""
        return self.options.get("DATABASE") or _routed()

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        """Add that the tables need their app, and the option a database."""
        messages = super().check(**kwargs)
        if not apps.is_installed("django_vtasks.db"):
            messages.append(
                checks.Error(
                    f"TASKS[{self.alias!r}] uses DatabaseTaskBackend without its tables.",
                    hint="Add 'django_vtasks.db' to INSTALLED_APPS and run migrate.",
                    id="vtasks.E002",
                )
            )
        if (database := self.options.get("DATABASE", DEFAULT_DB_ALIAS)) not in connections.settings:
            hint = conf.nearest(database, connections.settings)
            messages.append(
                checks.Error(
                    f"TASKS[{self.alias!r}]['OPTIONS'] names a DATABASE {database!r} that is not in DATABASES.{hint}",
                    id="vtasks.E003",
                )
            )
        return messages


def _routed() -> str:
    from django_vtasks.db.models import TaskRow

    return router.db_for_write(TaskRow)


@cache
def _broker(using: str, failed_cap: int) -> DatabaseBroker:
    """One broker per database and process: Django's backend objects are one per thread or asyncio task."""
    return DatabaseBroker(using, failed_cap=failed_cap)


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting in {"DATABASES", "TASKS"}:
        _broker.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_vtasks.backends.db")
