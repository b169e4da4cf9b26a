"""Tasks in Valkey if the benchmark names one, else in the database."""

import json
import os

from project import *  # noqa: F403
from project import INSTALLED_APPS as _APPS

DATABASES = {"default": json.loads(os.environ["BENCH_DJANGO_DATABASE"])}
INSTALLED_APPS = [*_APPS, "django_vtasks", "django_vtasks.db", "on_vtasks"]
if url := os.environ.get("BENCH_VALKEY_URL"):
    TASKS = {"default": {"BACKEND": "django_vtasks.backends.valkey.ValkeyTaskBackend", "OPTIONS": {"BROKER_URL": url}}}
else:
    TASKS = {"default": {"BACKEND": "django_vtasks.backends.db.DatabaseTaskBackend"}}
VTASKS_QUEUES = {"default": {}, "batches": {"batch": {"count": 100, "timeout": 1.0}}}
