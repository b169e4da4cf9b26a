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
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_vtasks",
    "django_vtasks.db",
]
TASKS = {"default": {"BACKEND": "django_vtasks.backends.db.DatabaseTaskBackend"}}

# TEST NAME equals NAME: a program that a test starts finds the databases that the test uses.
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": RUN_DIRECTORY / f"{NAME}.sqlite3",
        "TEST": {"NAME": RUN_DIRECTORY / f"{NAME}.sqlite3"},
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 5,
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
