"""Tasks in the database backend of Django's reference implementation."""

from on_django import aenqueue, aenqueue_of, enqueue, enqueue_of, prepare

__all__ = ["aenqueue", "aenqueue_of", "enqueue", "enqueue_of", "prepare"]
