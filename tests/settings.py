"""Django settings of the tests: each xdist worker has databases of its own, on the servers that are running."""

import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

NAME = f"vtasks_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
RUN_DIRECTORY = Path(os.environ.get("TEST_RUN_DIRECTORY", tempfile.gettempdir()))

SECRET_KEY = "for tests only"  # noqa: S105
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "tests.workapp.site"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_vtasks",
    "django_vtasks.db",
    "tests.workapp",
    "tests.batchapp",
]

# What a test tells the workers that it starts: where the tasks are, and how patient its database connections are.
TASKS_VALKEY = os.environ.get("TEST_TASKS_VALKEY")
TASKS_DATABASE = os.environ.get("TEST_TASKS_DATABASE")
CONN_MAX_AGE = int(os.environ.get("TEST_CONN_MAX_AGE", "0"))
SQLITE_TIMEOUT = float(os.environ.get("TEST_SQLITE_TIMEOUT", "5"))

if os.environ.get("TEST_LOGGING"):  # as most projects in production have it
    LOGGING = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "root": {"handlers": ["console"], "level": "INFO"},
    }

TASKS = {
    "default": {
        "BACKEND": "django_vtasks.backends.valkey.ValkeyTaskBackend",
        "OPTIONS": {"BROKER_URL": TASKS_VALKEY},
    }
    if TASKS_VALKEY
    else {
        "BACKEND": "django_vtasks.backends.db.DatabaseTaskBackend",
        "OPTIONS": {"DATABASE": TASKS_DATABASE} if TASKS_DATABASE else {},
    },
    "immediate": {"BACKEND": "django_vtasks.backends.immediate.ImmediateBackend"},
}

# TEST NAME equals NAME: a program that a test starts finds the databases that the test uses.
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": RUN_DIRECTORY / f"{NAME}.sqlite3",
        "TEST": {"NAME": RUN_DIRECTORY / f"{NAME}.sqlite3"},
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": SQLITE_TIMEOUT,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    },
}
if postgres := os.environ.get("TEST_POSTGRES_HOST"):
    DATABASES["postgres"] = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": postgres,
        "USER": "vtasks",
        "NAME": NAME,
        "TEST": {"NAME": NAME},
    }
# Where MariaDB's headers are missing, mysqlclient is not installed.
if (mariadb := os.environ.get("TEST_MARIADB_SOCKET")) and importlib.util.find_spec("MySQLdb"):
    DATABASES["mariadb"] = {
        "ENGINE": "django.db.backends.mysql",
        "HOST": mariadb,
        "USER": "root",
        "NAME": NAME,
        "TEST": {"NAME": NAME},
        "OPTIONS": {"charset": "utf8mb4"},
    }
for database in DATABASES.values():
    database["CONN_MAX_AGE"] = CONN_MAX_AGE
