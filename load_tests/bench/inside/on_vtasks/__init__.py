"""Tasks in django-vtasks, this one and 3.2.0, whose interface is the same."""

import os
from functools import cache

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "on_vtasks.settings")
UNIQUE_TTL = 600


def prepare():
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def enqueue(task, args):
    _task(task).enqueue(*args)


async def aenqueue(task, args):
    await _task(task).aenqueue(*args)


def enqueue_many(task, calls):
    task = _task(task)
    _backend().enqueue_many([(task, args, {}) for args in calls])


async def aenqueue_unique(task, args):
    await _unique(task).aenqueue(*args)


@cache
def _task(name):
    from on_vtasks import tasks

    return getattr(tasks, name)


@cache
def _unique(name):
    return _task(name).using(unique=True, ttl=UNIQUE_TTL)


@cache
def _backend():
    from django.tasks import task_backends

    return task_backends["default"]
