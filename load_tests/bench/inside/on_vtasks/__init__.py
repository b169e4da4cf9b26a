"""Tasks in django-vtasks, this one and 3.2.0, whose interface is the same."""

from functools import cache

from on_django import aenqueue, aenqueue_of, enqueue, enqueue_of, prepare, task_of

__all__ = [
    "aenqueue",
    "aenqueue_of",
    "aenqueue_unique",
    "enqueue",
    "enqueue_many",
    "enqueue_of",
    "give_back",
    "prepare",
]
UNIQUE_TTL = 600


def enqueue_many(task, calls):
    task = task_of(task)
    _backend().enqueue_many([(task, args, {}) for args in calls])


async def aenqueue_unique(task, args):
    await _unique(task).aenqueue(*args)


async def give_back(queue):
    from on_vtasks.left import give_back

    await give_back(_backend(), queue)


@cache
def _unique(name):
    return task_of(name).using(unique=True, ttl=UNIQUE_TTL)


@cache
def _backend():
    from django.tasks import task_backends

    return task_backends["default"]
