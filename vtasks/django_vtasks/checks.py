"""System checks; the ids are stable."""

from typing import Any

from django.apps import apps
from django.core import checks

from django_vtasks import conf


@checks.register("vtasks")
def check_settings(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Report every wrong VTASKS_ setting."""
    return [checks.Error(problem.message, obj=problem.setting, id="vtasks.E001") for problem in conf.problems()]


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
