"""The store of tasks in this process's memory, for tests and trials: nothing outlives the process."""

from django_vtasks.brokers.memory.broker import MemoryBroker

__all__ = ["MemoryBroker"]
