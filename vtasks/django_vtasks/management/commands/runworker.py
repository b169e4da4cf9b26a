"""``manage.py runworker``: run tasks until told to stop."""

import contextlib
import logging
import multiprocessing
import os
import sys
import threading
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError, OutputWrapper
from django.tasks.exceptions import InvalidTaskBackend

from django_vtasks import conf, topology
from django_vtasks.errors import ConfigError
from django_vtasks.topology import banner, run
from django_vtasks.topology.logs import log_to_stderr, wait_for_no_reader

USAGE_ERROR = 2
LAST_MOMENT = 0.5
"""Seconds that the interpreter has for a regular exit once the worker has stopped."""
LEVELS = {0: logging.ERROR, 1: logging.INFO, 2: logging.DEBUG, 3: logging.DEBUG}

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    """Run the tasks of one backend: a supervisor in this process, actors in others."""

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
        parser.add_argument(
            "--processes", metavar="N", help="actor processes for each queue, or 'auto' for what this machine bears"
        )
        parser.add_argument("--concurrency", type=int, metavar="N", help="tasks that one actor runs at a time")
        parser.add_argument("--backend", metavar="ALIAS", help="the key in TASKS (default: VTASKS_BACKEND)")
        parser.add_argument("--id", metavar="ID", help="a name for this worker in logs and tables")
        parser.add_argument(
            "--scheduler", action="store_true", help="enqueue the tasks of VTASKS_SCHEDULE, unless another worker does"
        )
        parser.add_argument("--burst", action="store_true", help="exit when no task is left to run")
        parser.add_argument("--health-port", type=_port, metavar="P", help="serve /live, /ready and /health here")
        parser.add_argument("--health-file", metavar="PATH", help="refresh this file while the worker is healthy")
        parser.add_argument("--metrics-port", type=_port_or_none, metavar="P", help="serve /metrics here; 0: nowhere")
        parser.add_argument("--reload", action="store_true", help="restart when code changes; for development")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the worker."""
        if multiprocessing.parent_process() is not None:
            raise CommandError("A worker cannot be started by one of its own processes: guard the main module.")
        level = LEVELS[options["verbosity"]]
        log_to_stderr(level)
        if self._owns_process:
            wait_for_no_reader()
        if options["reload"]:
            run.reloading(lambda: self._run(options, level))
        else:
            self._run(options, level)

    def run_from_argv(self, argv: list[str]) -> None:
        """Note that the process is the worker's own."""
        self._owns_process = True
        super().run_from_argv(argv)

    def _run(self, options: dict[str, Any], level: int) -> None:
        try:
            plan = topology.plan(
                backend=options["backend"],
                queues=options["queue"],
                concurrency=options["concurrency"],
                processes=options["processes"],
                worker_id=options["id"],
                health_port=options["health_port"],
                health_file=options["health_file"],
                metrics_port=options["metrics_port"],
                burst=options["burst"],
                scheduler=options["scheduler"],
                log_level=level,
            )
        except (ConfigError, InvalidTaskBackend) as error:
            raise CommandError(str(error), returncode=USAGE_ERROR) from error
        if plan.scheduler and not conf.current().schedule:
            logger.warning("VTASKS_SCHEDULE is empty: there is nothing to schedule")
        failure = run.in_foreground(
            plan,
            lambda: self._introduce(plan, options["verbosity"]),
            reload=options["reload"],
            owns_process=self._owns_process,
        )
        if self._owns_process:
            # Something may be left behind that the interpreter would wait for, such as a thread of the project's.
            # All has been settled or given back by now.
            code = 0 if failure is None else 1
            threading.Thread(target=_leave, args=(code,), name="vtasks-leave", daemon=True).start()
        if failure is not None:
            raise CommandError(f"The worker gives up: {failure}")

    def _introduce(self, plan: topology.Plan, verbosity: int) -> None:
        most_connections = banner.most_connections(plan)
        if verbosity:
            _say(self.stdout, "".join(f"{line}\n" for line in banner.lines(plan, most_connections)))
        if warning := banner.too_many(plan, most_connections):
            logger.warning(warning)


def _say(stdout: OutputWrapper, text: str) -> None:
    """Write to the standard output past its buffer: while that cannot be flushed, no process can be started."""
    try:
        descriptor = stdout.fileno()
    except (AttributeError, OSError, ValueError):  # it is no file
        stdout.write(text)
        return
    with contextlib.suppress(OSError):  # its disk is full, or its reader is gone
        stdout.flush()
        os.write(descriptor, text.encode(errors="replace"))


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port <= 65535:  # noqa: PLR2004 - what a port number is
        raise ValueError
    return port


def _port_or_none(text: str) -> int:
    return 0 if text == "0" else _port(text)


_port.__name__ = _port_or_none.__name__ = "port number"  # argparse: "invalid port number value"


def _leave(code: int) -> None:
    time.sleep(LAST_MOMENT)
    flushing = threading.Thread(target=_flush, daemon=True)  # whoever reads the output may not read
    flushing.start()
    flushing.join(LAST_MOMENT)
    os._exit(code)


def _flush() -> None:
    logging.shutdown()
    sys.stdout.flush()
