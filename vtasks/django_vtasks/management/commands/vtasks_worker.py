"""``manage.py vtasks_worker``: runworker under a name that no other app has."""

from django_vtasks.management.commands.runworker import Command

__all__ = ["Command"]
