"""The tests' settings with the apps that a test has written itself: TEST_APPS names them."""

import os
from typing import Any

from tests import settings as usual

globals().update({name: value for name, value in vars(usual).items() if name.isupper()})
INSTALLED_APPS: list[Any] = [
    *(app for app in usual.INSTALLED_APPS if not app.startswith("tests.")),
    *os.environ["TEST_APPS"].split(),
]
