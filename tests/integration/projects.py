"""Projects that a test writes: apps of a few lines, which the workers find, and this process does not."""

import time
import uuid
from pathlib import Path
from typing import Any

from django_vtasks.envelope import Envelope

HEAD = "from django_vtasks import task\nfrom tests.workapp.tasks import record, until_open\n\n\n"
SEND = f'{HEAD}@task\ndef send(key):\n    record(key, version="one")\n'


class Project:
    """A directory of apps, beside those of the tests that ``uses`` names."""

    def __init__(self, directory: Path, *uses: str) -> None:
        self.directory = directory
        self._apps = list(uses)
        directory.mkdir()

    def app(self, name: str, tasks: str) -> Path:
        """Write an app with this tasks module; return the module's file."""
        (self.directory / name).mkdir()
        (self.directory / name / "__init__.py").touch()
        self._apps.append(name)
        module = self.directory / name / "tasks.py"
        module.write_text(tasks)
        return module

    @property
    def environment(self) -> dict[str, str]:
        """Return what a worker of this project must be told."""
        return {
            "DJANGO_SETTINGS_MODULE": "tests.projects",
            "PYTHONPATH": str(self.directory),
            "TEST_APPS": " ".join(self._apps),
        }


def call(task: str, *args: Any, queue: str = "default") -> Envelope:
    """Return a call of a task that this process cannot import."""
    return Envelope(id=uuid.uuid4().hex, task=task, queue=queue, args=list(args), kwargs={}, enqueued_at=time.time())
