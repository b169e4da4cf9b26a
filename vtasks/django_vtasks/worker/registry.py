"""Dotted path → registered task; a path in a payload is never imported."""

import asyncio
import contextlib
import logging
import pkgutil
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

from django.apps import apps
from django.db import connections
from django.tasks import Task
from django.utils.module_loading import module_has_submodule

from django_vtasks.errors import TaskUnavailable, UnknownTask
from django_vtasks.results import AnyTask

logger = logging.getLogger(__name__)

OWN_APP = "django_vtasks"
"""Its ``tasks`` is no module of tasks."""


class Registry:
    """The tasks of the modules that this process has loaded."""

    def __init__(self) -> None:
        self._found: dict[str, AnyTask] = {}
        self.modules: list[str] = []
        self.errors: dict[str, BaseException] = {}

    def load(self) -> None:
        """Import ``tasks`` of every installed app, a package with all its modules; note what fails."""
        with _no_loop(), _no_connection_left():
            for app in apps.get_app_configs():
                if app.module is not None and app.name != OWN_APP and module_has_submodule(app.module, "tasks"):
                    self._import(f"{app.name}.tasks")

    def find(self, path: str) -> AnyTask:
        """Return the task with this dotted path.

        Raise UnknownTask when there is none, TaskUnavailable when its module could not be imported.
        """
        task = self._found.get(path)
        if task is None:
            for module in self.errors:
                # Of a package that cannot be imported, the modules are missing too.
                if path.startswith(f"{module}."):
                    raise TaskUnavailable(f"The module of task {path!r} could not be imported.")
            task = self._found[path] = self._look_up(path)
        return task

    def _import(self, name: str) -> None:
        try:
            import_module(name)
            self.modules.append(name)
            spec = find_spec(name)
            for _, submodule, _ in pkgutil.iter_modules((spec and spec.submodule_search_locations) or ()):
                self._import(f"{name}.{submodule}")
        except BaseException as error:
            self.errors[name] = error
            logger.exception("Cannot import %s: its tasks wait until a worker can", name)

    @staticmethod
    def _look_up(path: str) -> AnyTask:
        module_name, _, name = path.rpartition(".")
        module = sys.modules.get(module_name)
        if module is None:
            raise UnknownTask(
                f"No task {path!r}: this worker has not loaded the module {module_name!r}. Tasks live in the tasks "
                f"module of an installed app, or in modules that it imports."
            )
        candidate = vars(module).get(name)
        if isinstance(candidate, Task) and candidate.module_path == path:
            return candidate
        # `send = task(_send)`: the task's path ends in the function's name, not the variable's.
        for candidate in vars(module).values():
            if isinstance(candidate, Task) and candidate.module_path == path:
                return candidate
        raise UnknownTask(f"No task {path!r}: module {module_name!r} has no such task.")


@contextlib.contextmanager
def _no_loop() -> Iterator[None]:
    """Let imports find what they find in any other program: they may use the ORM, or run a loop of their own."""
    loop = asyncio._get_running_loop()  # noqa: SLF001 - there is no other way to step out of it in its own thread
    if loop is None:
        yield
        return
    task = asyncio.tasks._swap_current_task(loop, None)  # type: ignore[attr-defined]  # noqa: SLF001
    asyncio._set_running_loop(None)  # noqa: SLF001
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)  # noqa: SLF001
        asyncio.tasks._swap_current_task(loop, task)  # type: ignore[attr-defined]  # noqa: SLF001


@contextlib.contextmanager
def _no_connection_left() -> Iterator[None]:
    """Close the database connections that imports have opened in this thread, which runs no task."""
    before = _open_connections()
    try:
        yield
    finally:
        for alias in _open_connections() - before:
            connections[alias].close()


def _open_connections() -> set[str]:
    return {each.alias for each in connections.all(initialized_only=True) if each.connection is not None}
