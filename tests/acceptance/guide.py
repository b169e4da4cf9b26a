"""A project whose app is called ``myapp``, as in the guide; and how the guide's code is run."""

import ast
import importlib
import inspect
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from django.apps import apps

from tests.integration.workers import WorkerProcess

ROOT = Path(__file__).parents[2]
WORKER_TIMEOUT = 60
SCREEN = 10_000

SETTINGS = """
from tests.settings import *

DATABASES = {{"default": DATABASES[{alias!r}]}}
INSTALLED_APPS = [*INSTALLED_APPS, "myapp"]
"""

MANAGE = """
import os

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guide_settings")
    execute_from_command_line()
"""


class Project:
    """Has its tasks, settings and manage.py in a directory; ``alias`` is its database in this process."""

    def __init__(self, directory: Path, *, tasks: str, settings: str, models: str = "", alias: str = "default") -> None:
        self._directory = directory
        self._alias = alias
        app = directory / "myapp"
        app.mkdir()
        (app / "__init__.py").touch()
        (app / "models.py").write_text(models)
        (app / "tasks.py").write_text(tasks)
        (directory / "manage.py").write_text(MANAGE)
        self.configure(settings)

    def configure(self, settings: str) -> None:
        """Let the project have these settings."""
        (self._directory / "guide_settings.py").write_text(SETTINGS.format(alias=self._alias) + settings)

    @property
    def tasks(self) -> ModuleType:
        return importlib.import_module("myapp.tasks")

    @property
    def models(self) -> ModuleType:
        return importlib.import_module("myapp.models")

    @property
    def diary(self) -> list[str]:
        """Return what the tasks have noted, in the order in which they ran."""
        diary = self._directory / "myapp" / "diary"
        return diary.read_text().splitlines() if diary.exists() else []

    def run(self, block: str, **names: Any) -> SimpleNamespace:
        """Run a block of synchronous code; return its names."""
        exec(compile(block, "the guide", "exec"), names)  # noqa: S102 - the guide's code
        return SimpleNamespace(**names)

    async def arun(self, block: str, **names: Any) -> SimpleNamespace:
        """Run a block of code as an async view would; return its names."""
        code = compile(block, "the guide", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        outcome = eval(code, names)  # noqa: S307 - the guide's code
        if inspect.iscoroutine(outcome):
            await outcome
        return SimpleNamespace(**names)

    def manage(self, *arguments: str, **environment: str) -> str:
        """Run a command of manage.py to its end, which must be a good one; return what it says."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self._directory,
            env=os.environ | self._environment | environment,
            capture_output=True,
            text=True,
            timeout=WORKER_TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def command(self, block: str) -> str:
        """Run a command line as the guide prints it, below a comment; return what it says."""
        _, line = block.strip().splitlines()
        return self.manage(*_arguments(line))

    def answer(self, block: str, answer: str) -> str:
        """Run such a command on a terminal, and answer what it asks; return what is seen there."""
        _, line = block.strip().splitlines()
        ours, its = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "manage.py", *_arguments(line)],
            cwd=self._directory,
            env=os.environ | self._environment,
            stdin=its,
            stdout=its,
            stderr=its,
        )
        os.close(its)
        try:
            os.write(ours, f"{answer}\n".encode())
            process.wait(WORKER_TIMEOUT)
            return os.read(ours, SCREEN).decode()
        finally:
            process.kill()
            os.close(ours)

    def start(self, command: str, **environment: str) -> WorkerProcess:
        """Start a worker by a command line as the guide prints it."""
        arguments = _arguments(command)
        return WorkerProcess(
            self._directory / "worker.log",
            *arguments,
            environment=self._environment | {"PYTHONUNBUFFERED": "1"} | environment,
            command=(str(self._directory / "manage.py"),),
        )

    def serve(self, asgi: str, port: int) -> WorkerProcess:
        """Start an ASGI server with this application; it says where it runs when it listens."""
        (self._directory / "guide_asgi.py").write_text(asgi)
        return WorkerProcess(
            self._directory / "server.log",
            *("--app-dir", str(self._directory), "--port", str(port), "guide_asgi:application"),
            environment=self._environment,
            command=("-m", "uvicorn"),
        )

    @property
    def _environment(self) -> dict[str, str]:
        return {"DJANGO_SETTINGS_MODULE": "guide_settings", "PYTHONPATH": str(ROOT)}


def _arguments(line: str) -> list[str]:
    python, manage, *arguments = line.split()
    assert (python, manage) == ("python", "manage.py")
    return arguments


def forget() -> None:
    """Let the next project's app be another module."""
    for name in ("myapp.tasks", "myapp.models", "myapp"):
        sys.modules.pop(name, None)
    apps.all_models.pop("myapp", None)
    apps.clear_cache()
