"""``manage.py runworker``: run tasks until told to stop."""

import asyncio
import logging
import os
import sys
import threading
import time
from argparse import ArgumentParser
from importlib.metadata import version
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.tasks.exceptions import InvalidTaskBackend
from setproctitle import setproctitle

from django_vtasks import topology
from django_vtasks.errors import ConfigError

USAGE_ERROR = 2
LAST_MOMENT = 0.5
"""Seconds that the interpreter has for a regular exit once the worker has stopped."""
LEVELS = {0: logging.ERROR, 1: logging.INFO, 2: logging.DEBUG, 3: logging.DEBUG}


class Command(BaseCommand):
    """Run the tasks of one backend in this process."""

    # Django's own checks ask the database, which may be down; topology.plan() checks what a worker needs.
    requires_system_checks = ()
    _owns_process = False
    help = "Runs tasks until SIGTERM or Ctrl-C, then lets those that run finish."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--queue",
            action="append",
            default=[],
            metavar="Q",
            help="take this queue's tasks only; may be repeated",
        )
        parser.add_argument("--concurrency", type=int, metavar="N", help="tasks of a queue that run at a time")
        parser.add_argument("--backend", metavar="ALIAS", help="the key in TASKS (default: VTASKS_BACKEND)")
        parser.add_argument("--id", metavar="ID", help="a name for this worker in logs and tables")
        parser.add_argument("--burst", action="store_true", help="exit when no task is left to run")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the worker; leave the process behind when a task's thread does not end."""
        _log_to_stderr(LEVELS[options["verbosity"]])
        try:
            plan = topology.plan(
                backend=options["backend"],
                queues=options["queue"],
                concurrency=options["concurrency"],
                worker_id=options["id"],
                burst=options["burst"],
            )
        except (ConfigError, InvalidTaskBackend) as error:
            raise CommandError(str(error), returncode=USAGE_ERROR) from error
        self.stdout.write(f"django-vtasks {version('django-vtasks')} · {plan.backend} · {', '.join(plan.queues)}")
        setproctitle(f"vtasks: {','.join(plan.queues)}")
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._work(plan))

    def run_from_argv(self, argv: list[str]) -> None:
        """Note that the process is the worker's own."""
        self._owns_process = True
        super().run_from_argv(argv)

    async def _work(self, plan: topology.Plan) -> None:
        await topology.Worker(plan).run()
        if self._owns_process:
            # A task may have left something behind that the loop and the interpreter would wait for: a thread, a
            # coroutine that refuses to end. All has been settled or given back by now.
            threading.Thread(target=_leave, name="vtasks-leave", daemon=True).start()


def _leave() -> None:
    time.sleep(LAST_MOMENT)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _log_to_stderr(level: int) -> None:
    """Show the worker's log unless the project's LOGGING already does something with it."""
    logger = logging.getLogger("django_vtasks")
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(level)
