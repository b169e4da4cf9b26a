"""System checks; docs/reference/checks.md lists the ids, which are stable."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
from django.apps import apps
from django.core import checks
from django.db import connections
from django.tasks import task_backends
from django.utils.module_loading import import_string

from django_vtasks import conf
from django_vtasks.backends.db import DatabaseTaskBackend
from django_vtasks.backends.immediate import ImmediateBackend
from django_vtasks.metrics import exposition
from django_vtasks.scheduler import entries

POOL_SIZE = 4
"""Connections of a pool of psycopg's that is given no size."""
NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "afs", "9p", "ceph", "gluster", "fuse.gluster", "fuse.sshfs", "lustre")
OWN_FILES = {"DYNO": "dyno", "KUBERNETES_SERVICE_HOST": "pod"}
"""What tells that hosts do not share their files, by the environment variable that it sets."""


@checks.register("vtasks")
def check_settings(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Report every wrong VTASKS_ setting, and names in them that lead nowhere."""
    found = [problem.message for problem in conf.problems()] or _dangling(conf.current())
    return [checks.Error(message, id="vtasks.E001") for message in found]


def _dangling(config: conf.Config) -> list[str]:
    found = []
    if config.backend not in task_backends.settings:
        hint = conf.nearest(config.backend, task_backends.settings)
        found.append(f"VTASKS_BACKEND names {config.backend!r}, which is not in TASKS.{hint}")
    if config.task_context is not None:
        try:
            if not callable(import_string(config.task_context)):
                found.append(f"VTASKS_TASK_CONTEXT names {config.task_context!r}, which is not callable.")
        except ImportError as error:
            found.append(f"VTASKS_TASK_CONTEXT names {config.task_context!r}, which cannot be imported: {error}")
    return found


@checks.register("vtasks")
def check_schedule(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Report every entry of VTASKS_SCHEDULE that would not run."""
    if conf.problems():
        return []  # without queues and backends that are right, no task can be told to be
    return [checks.Error(message, id="vtasks.E005") for message in entries.read(conf.current().schedule).problems]


@checks.register("vtasks")
def check_command_clash(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Report that Channels has a ``runworker`` of its own, and whose will run."""
    if not apps.is_installed("channels"):
        return []
    return [
        checks.Warning(
            "Django Channels also has a command 'runworker'; of the two, the app listed first in INSTALLED_APPS wins.",
            hint="'manage.py vtasks_worker' is always the one of django-vtasks.",
            id="vtasks.W001",
        )
    ]


@checks.register("vtasks")
def check_metrics(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Report a port for metrics that nothing can be served on."""
    if conf.problems() or not conf.current().metrics_port or exposition.is_available():
        return []
    return [
        checks.Warning(
            "VTASKS_METRICS_PORT is set, and the package prometheus-client is not installed: there will be no metrics.",
            hint="pip install 'django-vtasks[metrics]'",
            id="vtasks.W002",
        )
    ]


@checks.register("vtasks")
def check_batch_queues(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Report batch queues to which no task can be sent."""
    if conf.problems():
        return []
    valid = [backend.queues for backend in task_backends.all()]  # an empty set is any
    return [
        checks.Warning(
            f"No task can be sent to the batch queue {queue!r}: no backend in TASKS has it among its QUEUES.",
            hint="Add it there, or leave QUEUES out: then the VTASKS_ settings say which queues there are.",
            id="vtasks.W003",
        )
        for queue in conf.current().batch_queues
        if not any(not queues or queue in queues for queues in valid)
    ]


@checks.register("vtasks", deploy=True)
def check_batch_queues_are_consumed(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Report batch queues of a backend for tests, whose tasks nobody would run."""
    if conf.problems() or not (queues := conf.current().batch_queues):
        return []
    return [
        checks.Warning(
            f"TASKS[{alias!r}] is an ImmediateBackend, which keeps the tasks of batch queues "
            f"({', '.join(queues)}) in memory until a test flushes them: here nobody runs them.",
            hint="Use it in tests only.",
            id="vtasks.W004",
        )
        for alias in task_backends.settings
        if isinstance(task_backends[alias], ImmediateBackend)
    ]


@checks.register("vtasks")
def check_pools(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Report pools of connections that are too small for the tasks that run at a time."""
    if conf.problems():
        return []
    wanted = _most_at_a_time(conf.current())
    return [
        checks.Warning(
            f"DATABASES[{alias!r}] has a pool of {size} connections, and {wanted} tasks of one process may want one at "
            "a time: the others wait for it, and fail when that takes longer than the pool's timeout.",
            hint=f"Let OPTIONS['pool'] have a max_size of at least {wanted}, or lower VTASKS_CONCURRENCY.",
            id="vtasks.W005",
        )
        for alias, size in _pools()
        if size < wanted
    ]


def _most_at_a_time(config: conf.Config) -> int:
    return max(queue.concurrency or config.concurrency for queue in config.queues.values())


def _pools() -> Iterator[tuple[str, int]]:
    """Yield each database that has a pool of psycopg's, and how many connections that gives at a time."""
    for alias, settings in connections.settings.items():
        pool = settings.get("OPTIONS", {}).get("pool")
        if pool and settings["ENGINE"] == "django.db.backends.postgresql":
            options: Mapping[str, Any] = pool if isinstance(pool, Mapping) else {}
            size = options.get("max_size") or options.get("min_size", POOL_SIZE)
            if isinstance(size, int):
                yield alias, size


@checks.register("vtasks", deploy=True)
def check_sqlite_is_local(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Report tasks in an SQLite file that several hosts share, or believe that they do."""
    found: list[checks.CheckMessage] = []
    for alias in task_backends.settings:
        backend = task_backends[alias]
        if isinstance(backend, DatabaseTaskBackend) and (reason := _why_not_shared(backend.database)):
            found.append(
                checks.Warning(
                    f"TASKS[{alias!r}] keeps tasks in an SQLite file, and {reason}.",
                    hint="With more than one host, keep them in PostgreSQL, MariaDB, MySQL or Valkey.",
                    id="vtasks.W006",
                )
            )
    return found


def _why_not_shared(database: str) -> str | None:
    """Return why the file of a database is not the same for all hosts, or not safe there; None when nothing says so."""
    settings = connections.settings.get(database, {})
    if settings.get("ENGINE") != "django.db.backends.sqlite3" or ":memory:" in str(settings["NAME"]):
        return None
    kind = _file_system(Path(str(settings["NAME"])).resolve())
    if kind.startswith(NETWORK_FILE_SYSTEMS):
        return f"its file system is {kind}, whose locks do not keep several hosts from spoiling it"
    where = next((name for variable, name in OWN_FILES.items() if variable in os.environ), None)
    return None if where is None else f"each {where} has files of its own, which go with it"


def _file_system(path: Path) -> str:
    """Return the kind of file system that a path is in, or nothing where the system does not tell."""
    mounts = [mount for mount in psutil.disk_partitions(all=True) if path.is_relative_to(mount.mountpoint)]
    # Of two at the same place the later one hides the other, as a share does what has mounted it.
    return max(reversed(mounts), key=lambda mount: len(mount.mountpoint)).fstype if mounts else ""
