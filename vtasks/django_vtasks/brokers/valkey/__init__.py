"""Tasks in Valkey, or in a Redis that speaks the same."""

from django_vtasks.brokers.valkey.broker import ValkeyBroker

__all__ = ["ValkeyBroker"]
