"""The backend of our tasks, under its own type: Django's knows neither bulk nor broker."""

from typing import cast

from django.tasks import task_backends

from django_vtasks.backends.db import DatabaseTaskBackend


def backend() -> DatabaseTaskBackend:
    """Return the backend."""
    return cast("DatabaseTaskBackend", task_backends["default"])
