"""``manage.py vtasks``: look at queues, workers and tasks; pause queues; retry or delete what has failed."""

import json
from argparse import ArgumentParser, ArgumentTypeError, _SubParsersAction
from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandError

from django_vtasks.backends.base import BrokerBackend
from django_vtasks.brokers.base import Retrial
from django_vtasks.management.operating import OperatorCommand
from django_vtasks.operators import desk, pictures
from django_vtasks.operators.pictures import Picture
from django_vtasks.operators.prose import harmless, moment, span, table

ARGUMENTS = "show arguments too, which may hold secrets"
LIMIT = 100
"""Tasks that are listed unless told otherwise."""


class Command(OperatorCommand):
    """Operate a backend: each subcommand is a method of its name."""

    help = "Shows queues, workers and tasks, pauses queues, retries or deletes failed tasks."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the subcommands."""
        subcommands = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
        queues = _add(subcommands, "queues", "how much waits in each queue, and for how long")
        queues.add_argument("--exact", action="store_true", help="count beyond 10,000, which takes a database its time")
        _add(subcommands, "workers", "the workers that are alive, and their actors")
        running = _add(subcommands, "running", "the tasks that workers have taken")
        running.add_argument("--limit", type=_number, default=LIMIT, metavar="N", help=f"at most (default {LIMIT})")
        running.add_argument("--args", dest="arguments", action="store_true", help=ARGUMENTS)
        for name, what in (("pause", "let no worker take tasks of a queue"), ("resume", "let them take tasks again")):
            _add(subcommands, name, what).add_argument("queue", metavar="QUEUE")
        failed = subcommands.add_parser("failed", help="failed tasks")
        self._add_failed(failed.add_subparsers(dest="failed", required=True, metavar="SUBCOMMAND"))

    def _add_failed(self, subcommands: "_SubParsersAction[Any]") -> None:
        listing = _add(subcommands, "list", "the newest failed tasks")
        listing.add_argument("--queue", metavar="Q", help="of this queue only")
        listing.add_argument("--limit", type=_number, default=LIMIT, metavar="N", help=f"at most (default {LIMIT})")
        showing = _add(subcommands, "show", "everything about one failed task")
        showing.add_argument("id", metavar="ID")
        showing.add_argument("--args", dest="arguments", action="store_true", help=ARGUMENTS)
        for name, what in (("retry", "let failed tasks run again"), ("delete", "delete failed tasks for good")):
            subcommand = _add(subcommands, name, what)
            subcommand.add_argument("ids", nargs="*", metavar="ID")
            subcommand.add_argument("--all", action="store_true", help="all there are")
            if name == "delete":
                subcommand.add_argument("--force", action="store_true", help="do not ask")

    def operate(self, **options: Any) -> None:
        """Call the method of the subcommand."""
        backend = desk.backend_called(options["backend"])
        name = f"failed_{options['failed']}" if options["subcommand"] == "failed" else options["subcommand"]
        getattr(self, name)(backend, options)

    # Looking -------------------------------------------------------------------------------------------------

    def queues(self, backend: BrokerBackend, options: dict[str, Any]) -> None:
        """Show how much waits."""
        found = pictures.queues(backend, exact=options["exact"])
        names = ("queue", "waiting", "delayed", "running")
        rows = [(*(each[name] for name in names), span(each["oldest_seconds"]), each["paused"]) for each in found]
        self._show(found, [*names, "oldest", "paused"], rows, options)

    def workers(self, backend: BrokerBackend, options: dict[str, Any]) -> None:
        """Show who is alive."""
        found = pictures.workers(backend.broker)  # type: ignore[arg-type] # every store is a coordinator too
        rows = [_row_of(worker, actor) for worker in found for actor in worker["actors"] or [{}]]
        head = ["node", "worker", "lease", "actor", "queue", "state", "restarts", "pid", "last exit"]
        self._show(found, head, rows, options)

    def running(self, backend: BrokerBackend, options: dict[str, Any]) -> None:
        """Show what has been taken."""
        found = pictures.running(backend.broker, options["limit"], arguments=options["arguments"])
        head = ["id", "task", "queue", "node", "actor", "attempt"]
        rows = [[*(each[name] for name in head), span(each["seconds"]), *_call(each)] for each in found]
        self._show(found, [*head, "for", *(["arguments"] if options["arguments"] else [])], rows, options)

    def failed_list(self, backend: BrokerBackend, options: dict[str, Any]) -> None:
        """Show the newest failed tasks."""
        found = pictures.failed(backend.broker, options["limit"], options["queue"])
        if options["queue"] is not None and not found:  # of a queue that is no more there may be some
            desk.check_queue(backend, options["queue"])
        head = ["id", "task", "queue", "exception", "message", "attempts"]
        rows = [[moment(each["failed_at"]), *(each[name] for name in head)] for each in found]
        self._show(found, ["failed", *head], rows, options)

    def failed_show(self, backend: BrokerBackend, options: dict[str, Any]) -> None:
        """Show one failed task."""
        entry = backend.broker.failed_task(options["id"])
        if entry is None:
            desk.check_failed(backend.broker, [options["id"]])
            raise AssertionError("unreachable")
        found = pictures.failed_task(entry, arguments=options["arguments"])
        if options["json"]:
            self._write_json(found)
            return
        for name, value in (found | {"failed_at": moment(entry.failed_at)}).items():
            if name != "traceback":
                self.stdout.write(f"{name + ':':<11} {harmless(str(value))}")
        self.stdout.write(f"\n{harmless(entry.failure.traceback)}")

    # Doing ---------------------------------------------------------------------------------------------------

    def pause(self, backend: BrokerBackend, options: dict[str, Any]) -> None:
        """Pause a queue."""
        desk.check_queue(backend, options["queue"])
        backend.broker.pause(options["queue"])
        self._tell({"queue": options["queue"], "paused": True}, f"Queue {options['queue']} is paused.", options)

    def resume(self, backend: BrokerBackend, options: dict[str, Any]) -> None:
        """Let a queue go on."""
        desk.check_queue(backend, options["queue"])
        backend.broker.resume(options["queue"])
        self._tell({"queue": options["queue"], "paused": False}, f"Queue {options['queue']} is not paused.", options)

    def failed_retry(self, backend: BrokerBackend, options: dict[str, Any]) -> None:
        """Let failed tasks run again."""
        task_ids = self._chosen(backend, options)
        retrials: dict[str, Retrial] = {}
        for some in desk.in_chunks(task_ids):
            retrials |= backend.broker.retry_failed(some)
        found = [{"id": task_id, "outcome": retrials[task_id].value} for task_id in task_ids]
        counts = Counter(retrials.values())
        self._show(found, ["id", "outcome"], [list(each.values()) for each in found], options)
        if left := [f"{counts[why]} {why.value}" for why in Retrial if why is not Retrial.RETRIED and counts[why]]:
            raise CommandError(f"Not all failed tasks run again: {', '.join(left)}.")

    def failed_delete(self, backend: BrokerBackend, options: dict[str, Any]) -> None:
        """Delete failed tasks."""
        task_ids = self._chosen(backend, options)
        self.confirm(f"Delete {len(task_ids)} failed tasks for good?", force=options["force"])
        deleted = sum(len(backend.broker.delete_failed(some)) for some in desk.in_chunks(task_ids))
        self._tell({"deleted": deleted}, f"Deleted {deleted} failed tasks.", options)

    def _chosen(self, backend: BrokerBackend, options: dict[str, Any]) -> Sequence[str]:
        """Return the ids that are given, or all; without either, or with both, nobody knows what is meant."""
        if bool(options["ids"]) == options["all"]:
            raise CommandError("Give the ids of failed tasks, or --all.")
        if options["all"]:
            return backend.broker.failed_ids()
        desk.check_failed(backend.broker, options["ids"])
        return list(dict.fromkeys(options["ids"]))

    # Writing -------------------------------------------------------------------------------------------------

    def _show(
        self, found: list[Picture], head: Sequence[str], rows: Sequence[Sequence[object]], options: dict[str, Any]
    ) -> None:
        if options["json"]:
            self._write_json(found)
        else:
            self.stdout.write("\n".join(table(head, rows)))

    def _tell(self, found: Picture, sentence: str, options: dict[str, Any]) -> None:
        if options["json"]:
            self._write_json(found)
        else:
            self.stdout.write(sentence)

    def _write_json(self, found: Picture | list[Picture]) -> None:
        self.stdout.write(json.dumps(found, indent=2))


def _add(subcommands: "_SubParsersAction[Any]", name: str, what: str) -> ArgumentParser:
    """Add a subcommand with the options that all have."""
    subcommand: ArgumentParser = subcommands.add_parser(name, help=what, description=what)
    subcommand.add_argument("--backend", metavar="ALIAS", help="the key in TASKS (default: VTASKS_BACKEND)")
    subcommand.add_argument("--json", action="store_true", help="for programs")
    return subcommand


def _row_of(worker: Picture, actor: Picture) -> Sequence[object]:
    told = [actor.get(name) for name in ("name", "queue", "state", "restarts", "pid", "last_exit")]
    return [worker["node"], worker["state"], span(worker["lease_seconds"]), *told]


def _call(picture: Picture) -> list[str]:
    if "args" not in picture:
        return []
    words = [json.dumps(value) for value in picture["args"] or ()]
    return [", ".join(words + [f"{name}={json.dumps(value)}" for name, value in (picture["kwargs"] or {}).items()])]


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"must be a number, and not negative (it is {text!r})")
    return int(text)
