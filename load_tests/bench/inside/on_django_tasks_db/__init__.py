"""Tasks in the database backend of Django's reference implementation."""

from on_django import aenqueue, enqueue, prepare

__all__ = ["aenqueue", "enqueue", "prepare"]
