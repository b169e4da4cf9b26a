"""``manage.py clear_queue``: delete tasks that wait, or those that failed."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.tasks import DEFAULT_TASK_BACKEND_ALIAS, DEFAULT_TASK_QUEUE_NAME
from django.tasks.exceptions import InvalidTaskBackend

from django_vtasks import conf, topology
from django_vtasks.brokers.base import Broker
from django_vtasks.errors import ConfigError

USAGE_ERROR = 2


class Command(BaseCommand):
    """Clear one queue, all queues, or the failed list of a backend."""

    help = "Deletes waiting and delayed tasks with their locks, or failed tasks. Running tasks are never touched."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--backend-alias", default=DEFAULT_TASK_BACKEND_ALIAS, metavar="ALIAS", help="a key of TASKS"
        )
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--queue", default=DEFAULT_TASK_QUEUE_NAME, metavar="Q", help="the queue to clear")
        what.add_argument("--all-queues", action="store_true", help="clear every queue")
        what.add_argument("--failed", action="store_true", help="clear the failed list and nothing else")
        parser.add_argument("--force", action="store_true", help="do not ask")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask unless told not to, then clear."""
        try:
            backend = topology.backend_with_broker(options["backend_alias"])
            broker = backend.broker
        except (ConfigError, InvalidTaskBackend) as error:
            raise CommandError(str(error), returncode=USAGE_ERROR) from error
        if options["failed"]:
            self._confirm(f"Delete all {broker.failed_count()} failed tasks?", force=options["force"])
            self.stdout.write(f"Deleted {broker.clear_failed()} failed tasks.")
            return
        queues = broker.queues() if options["all_queues"] else [_known(options["queue"], backend.queues, broker)]
        self._confirm(f"Delete the waiting tasks of {', '.join(queues) or 'no queue'}?", force=options["force"])
        for queue in queues:
            self.stdout.write(f"Deleted {broker.clear(queue)} tasks of queue {queue}.")
        if not queues:
            self.stdout.write("Deleted 0 tasks.")

    def _confirm(self, question: str, *, force: bool) -> None:
        if force:
            return
        if not sys.stdin.isatty():
            raise CommandError(
                "Nobody can be asked here, as standard input is no terminal. --force deletes without asking."
            )
        if not _agreed(question):
            raise CommandError("Nothing was deleted.")


def _agreed(question: str) -> bool:
    try:
        return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:  # Ctrl-D
        return False


def _known(queue: str, valid: set[str], broker: Broker) -> str:
    """Return the name of a queue that is valid or that holds tasks from when it was."""
    if valid and queue not in valid and queue not in broker.queues():
        raise CommandError(f"There is no queue {queue!r}.{conf.nearest(queue, valid)}")
    return queue
