"""What the fork server imports once for all actors: the project, its tasks, and what a worker needs to run them."""

import contextlib
import logging

import django

django.setup()


def _import_all() -> None:
    from django.apps import apps
    from django.db import connections
    from django.tasks import task_backends

    from django_vtasks.topology import queue_actor  # noqa: F401 - shared by all actors
    from django_vtasks.worker.registry import Registry

    with contextlib.suppress(ImportError):
        import uvloop  # noqa: F401 - the loop of all actors
    # Each actor loads the modules again, and then tells which of them cannot be imported.
    logging.disable()
    try:
        Registry().load()
    finally:
        logging.disable(logging.NOTSET)
    for alias in task_backends.settings:
        getattr(task_backends[alias], "broker", None)  # the driver and the dialect; nothing is opened
    # What the ORM imports and caches with its first queries is 10 MB that each actor would have for itself.
    for model in apps.get_models():
        with contextlib.suppress(Exception):
            str(model._base_manager.filter(pk=0).order_by("pk").query)  # noqa: SLF001 - Django documents it
    connections.close_all()


_import_all()
