"""What the fork server imports once for all actors: the project, its tasks, and what a worker needs to run them."""

import contextlib
import logging

from django_vtasks.topology.setup import set_up

set_up()


def _import_all() -> None:
    from django.apps import apps
    from django.db import connections
    from django.tasks import task_backends

    from django_vtasks import conf
    from django_vtasks.backends.base import BrokerBackend
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
    # The driver and the dialect are loaded; what an import has sent, it sent on a connection that no actor shall share.
    for alias in task_backends.settings:
        if isinstance(backend := task_backends[alias], BrokerBackend):
            backend.broker.close()
    # What the ORM and the driver load with their first use, each actor would otherwise have for itself.
    for model in apps.get_models():
        with contextlib.suppress(Exception):
            str(model._base_manager.filter(pk=0).order_by("pk").query)  # noqa: SLF001 - Django documents it
    for connection in connections.all():
        if connection.vendor == "postgresql":
            with contextlib.suppress(ImportError, AttributeError):  # another driver, or another Django
                from django.db.backends.postgresql import psycopg_any

                psycopg_any.get_adapters_template(conf.use_tz(), connection.timezone)
    connections.close_all()


_import_all()
