"""Readies an actor's process for Django, unless it is a copy of one that is ready."""

import django
from django.apps import apps


def set_up() -> None:
    """Do what django.setup() does, once: to configure logging again is a megabyte that an actor need not have."""
    if not apps.ready:
        django.setup()
