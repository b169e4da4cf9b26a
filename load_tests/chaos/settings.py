"""Django settings of a run under faults: those of a benchmark, with tasks that tell what becomes of them."""

import json
import os

from load_tests.settings import DATABASES, SECRET_KEY, TASKS, USE_TZ

__all__ = ["DATABASES", "SECRET_KEY", "TASKS", "USE_TZ"]

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "tests.workapp.site"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_vtasks",
    "django_vtasks.db",
    "tests.workapp",
    "load_tests.chaos",
]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(process)d %(levelname)s %(message)s"}},
    # A line for each task would be all there is in the log.
    "filters": {
        "rare": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: not str(record.msg).startswith("Task %s succeeded"),
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["rare"]}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {"django": {"level": "WARNING"}},
}
# What this process alone is told, such as a schedule or the queues.
globals().update(json.loads(os.environ.get("CHAOS_SETTINGS", "{}")))
