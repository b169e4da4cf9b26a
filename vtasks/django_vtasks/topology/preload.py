"""What the fork server imports once for all actors: the project, its tasks, and what a worker needs to run them."""

import logging

import django

django.setup()


def _import_all() -> None:
    from django.db import connections

    from django_vtasks.topology import queue_actor  # noqa: F401 - shared by all actors
    from django_vtasks.worker.registry import Registry

    # Each actor loads the modules again, and then tells which of them cannot be imported.
    logging.disable()
    try:
        Registry().load()
    finally:
        logging.disable(logging.NOTSET)
    connections.close_all()


_import_all()
