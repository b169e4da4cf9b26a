"""Settings of the demo; whatever it writes goes to ``demo/var``, or to the directory that DEMO_DIR names."""

import os
from pathlib import Path
from typing import Any

import django

DEMO = Path(__file__).parents[1]
VAR = Path(os.environ.get("DEMO_DIR") or DEMO / "var").resolve()
VAR.mkdir(parents=True, exist_ok=True)
MAIL_DIR = VAR / "mail"
REPORT_DIR = VAR / "reports"

DEBUG = True  # so that runserver serves the admin's style sheets
SECRET_KEY = "no secret: the demo listens on this machine only"  # noqa: S105
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "reading_room.urls"
STATIC_URL = "static/"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_vtasks",
    "django_vtasks.db",
    "library",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": VAR / "demo.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 5,
            "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;",
        },
    },
}

TASKS = {"default": {"BACKEND": "django_vtasks.backends.db.DatabaseTaskBackend"}}
VTASKS_QUEUES = ["default", "emails"]
VTASKS_BATCH_QUEUES = {"statistics": {"count": 100, "timeout": 0.5}}
VTASKS_CONCURRENCY = 4  # of each queue; SQLite has one writer at a time, so that more would mostly wait for it

FILE_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
MAILERS: dict[str, Any]
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": FILE_BACKEND, "OPTIONS": {"file_path": MAIL_DIR}}}
else:
    EMAIL_BACKEND = FILE_BACKEND
    EMAIL_FILE_PATH = MAIL_DIR

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        "django_vtasks": {"handlers": ["stderr"], "level": "INFO"},
        # Of Django's own lines the failures, because they have the traceback; django_vtasks has the rest.
        "django.tasks": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
    },
}
