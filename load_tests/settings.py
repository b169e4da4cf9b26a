"""Django settings of a benchmark; the database is what LOAD_TEST_DATABASE says, in JSON."""

import json
import os

SECRET_KEY = "for load tests only"  # noqa: S105
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_vtasks",
    "django_vtasks.db",
    "load_tests",
]
DATABASES = {"default": json.loads(os.environ["LOAD_TEST_DATABASE"])}
TASKS = {"default": {"BACKEND": "django_vtasks.backends.db.DatabaseTaskBackend"}}
# All contenders are measured with their logging at WARNING.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"django": {"level": "WARNING"}},
}
