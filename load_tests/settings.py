"""Django settings of a benchmark; where tasks go is what LOAD_TEST_SETTINGS says, in JSON."""

import json
import os

SECRET_KEY = "for load tests only"  # noqa: S105
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.admin",
    "django_vtasks",
    "django_vtasks.db",
    "load_tests",
]
_settings = json.loads(os.environ["LOAD_TEST_SETTINGS"])
DATABASES = _settings["DATABASES"]
TASKS = _settings["TASKS"]
# What the admin asks for: users have it, and it takes memory.
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
# All contenders are measured with their logging at WARNING.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"django": {"level": "WARNING"}},
}
