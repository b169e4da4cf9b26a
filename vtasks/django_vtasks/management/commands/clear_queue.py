"""``manage.py clear_queue``: delete tasks that wait, or those that failed."""

from argparse import ArgumentParser
from typing import Any

from django.core.management import CommandError
from django.tasks import DEFAULT_TASK_BACKEND_ALIAS, DEFAULT_TASK_QUEUE_NAME

from django_vtasks.management.operating import OperatorCommand
from django_vtasks.operators import desk


class Command(OperatorCommand):
    """Clear one queue, all queues, or the failed list of a backend."""

    help = "Deletes waiting and delayed tasks with their locks, or failed tasks. Running tasks are never touched."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--backend-alias", default=DEFAULT_TASK_BACKEND_ALIAS, metavar="ALIAS", help="a key of TASKS"
        )
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--queue", metavar="Q", help=f"the queue to clear (default: {DEFAULT_TASK_QUEUE_NAME})")
        what.add_argument("--all-queues", action="store_true", help="clear every queue")
        what.add_argument("--failed", action="store_true", help="clear the failed list and nothing else")
        parser.add_argument("--force", action="store_true", help="do not ask")

    def operate(self, **options: Any) -> None:
        """Ask unless told not to, then clear."""
        if sum(bool(options[name]) for name in ("queue", "all_queues", "failed")) > 1:  # call_command() does not look
            raise CommandError("Give one of queue, all_queues and failed.")
        backend = desk.backend_called(options["backend_alias"])
        broker = backend.broker
        if options["failed"]:
            self.confirm(f"Delete all {broker.failed_count()} failed tasks?", force=options["force"])
            self.stdout.write(f"Deleted {broker.clear_failed()} failed tasks.")
            return
        queue = options["queue"] or DEFAULT_TASK_QUEUE_NAME
        if not options["all_queues"]:
            desk.check_queue(backend, queue)
        queues = broker.queues() if options["all_queues"] else [queue]
        self.confirm(f"Delete the waiting tasks of {', '.join(queues) or 'no queue'}?", force=options["force"])
        for queue in queues:
            self.stdout.write(f"Deleted {broker.clear(queue)} tasks of queue {queue}.")
        if not queues:
            self.stdout.write("Deleted 0 tasks.")
