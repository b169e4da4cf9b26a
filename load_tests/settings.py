"""Django settings of a benchmark; where tasks go is what LOAD_TEST_SETTINGS says, in JSON."""

import json
import os

from load_tests.bench.inside.project import *  # noqa: F403
from load_tests.bench.inside.project import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "django_vtasks", "django_vtasks.db", "load_tests"]
_settings = json.loads(os.environ["LOAD_TEST_SETTINGS"])
DATABASES = _settings["DATABASES"]
TASKS = _settings["TASKS"]
