"""What all contenders with Django's interface do alike; their tasks are in the module ``tasks`` of BENCH_MODULE."""

import importlib
import os
from functools import cache

os.environ.setdefault("DJANGO_SETTINGS_MODULE", f"{os.environ['BENCH_MODULE']}.settings")


def prepare():
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def enqueue(task, args):
    task_of(task).enqueue(*args)


async def aenqueue(task, args):
    await task_of(task).aenqueue(*args)


def enqueue_of(task):
    return task_of(task).enqueue


def aenqueue_of(task):
    return task_of(task).aenqueue


@cache
def task_of(name):
    return getattr(importlib.import_module(f"{os.environ['BENCH_MODULE']}.tasks"), name)
