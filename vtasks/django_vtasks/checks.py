"""System checks; the ids are stable."""

from typing import Any

from django.apps import apps
from django.core import checks
from django.tasks import task_backends
from django.utils.module_loading import import_string

from django_vtasks import conf
from django_vtasks.scheduler import entries


@checks.register("vtasks")
def check_settings(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Report every wrong VTASKS_ setting, and names in them that lead nowhere."""
    found = [problem.message for problem in conf.problems()] or _dangling(conf.current())
    return [checks.Error(message, id="vtasks.E001") for message in found]


def _dangling(config: conf.Config) -> list[str]:
    found = []
    if config.backend not in task_backends.settings:
        hint = conf.nearest(config.backend, task_backends.settings)
        found.append(f"VTASKS_BACKEND names {config.backend!r}, which is not in TASKS.{hint}")
    if config.task_context is not None:
        try:
            if not callable(import_string(config.task_context)):
                found.append(f"VTASKS_TASK_CONTEXT names {config.task_context!r}, which is not callable.")
        except ImportError as error:
            found.append(f"VTASKS_TASK_CONTEXT names {config.task_context!r}, which cannot be imported: {error}")
    return found


@checks.register("vtasks")
def check_schedule(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Report every entry of VTASKS_SCHEDULE that would not run."""
    if conf.problems():
        return []  # without queues and backends that are right, no task can be told to be
    return [checks.Error(message, id="vtasks.E005") for message in entries.read(conf.current().schedule).problems]


@checks.register("vtasks")
def check_command_clash(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Report that Channels has a ``runworker`` of its own, and whose will run."""
    if not apps.is_installed("channels"):
        return []
    return [
        checks.Warning(
            "Django Channels also has a command 'runworker'; of the two, the app listed first in INSTALLED_APPS wins.",
            hint="'manage.py vtasks_worker' is always the one of django-vtasks.",
            id="vtasks.W001",
        )
    ]
