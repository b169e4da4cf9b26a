"""The contract in SQL: SQLite, PostgreSQL, MariaDB and MySQL through Django's connections."""

from django_vtasks.brokers.database.broker import DatabaseBroker

__all__ = ["DatabaseBroker"]
