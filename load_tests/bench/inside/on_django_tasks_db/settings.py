"""Tasks in the database."""

import json
import os

from project import *  # noqa: F403
from project import INSTALLED_APPS as _APPS

DATABASES = {"default": json.loads(os.environ["BENCH_DJANGO_DATABASE"])}
INSTALLED_APPS = [*_APPS, "django_tasks_db", "on_django_tasks_db"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
