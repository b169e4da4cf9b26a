"""The admin: results, waiting tasks and failed tasks, all to be looked at only."""

from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from django_vtasks import wire
from django_vtasks.db.models import FailedRow, TaskRow
from django_vtasks.envelope import Envelope
from django_vtasks.errors import PayloadError
from library.models import Count, Mail, Report, Run


class LookOnly(admin.ModelAdmin):
    """An admin that changes nothing."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse; who may view still can."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False


@admin.register(Count)
class CountAdmin(LookOnly):
    """Words."""

    list_display = ("text", "word", "times", "counted_at")
    list_filter = ("text",)


@admin.register(Mail)
class MailAdmin(LookOnly):
    """E-mails."""

    list_display = ("subject", "to", "kind", "sent_at")
    list_filter = ("kind",)


@admin.register(Report)
class ReportAdmin(LookOnly):
    """Files."""

    list_display = ("file", "written_at", "look")

    @admin.display(description="")
    def look(self, report: Report) -> str:
        """Link to the file."""
        return format_html('<a href="{}">look at it</a>', reverse("report", args=[report.file]))


@admin.register(Run)
class RunAdmin(LookOnly):
    """The journal."""

    list_display = ("name", "arguments", "succeeded", "queue", "priority", "waited_for", "took_so_long", "finished_at")
    list_filter = ("task", "failure", "queue", "priority")

    @admin.display(boolean=True)
    def succeeded(self, run: Run) -> bool:
        """Tell whether no exception ended the task."""
        return not run.failure

    @admin.display(description="waited")
    def waited_for(self, run: Run) -> str:
        """Show milliseconds, no less."""
        return f"{run.waited:.3f} s"

    @admin.display(description="took")
    def took_so_long(self, run: Run) -> str:
        """Show milliseconds, no less."""
        return f"{run.took:.3f} s"


class StoredTask(LookOnly):
    """A row with a payload, which only django_vtasks.wire can read."""

    @admin.display(description="arguments")
    def arguments(self, row: TaskRow | FailedRow) -> str:
        """Show what the task was called with."""
        envelope = _envelope(row)
        if isinstance(envelope, str):
            return envelope
        return ", ".join([*map(repr, envelope.args), *(f"{name}={value!r}" for name, value in envelope.kwargs.items())])


@admin.register(TaskRow)
class TaskRowAdmin(StoredTask):
    """What waits, is delayed, or runs."""

    list_display = ("name", "arguments", "queue", "priority", "state", "due_at")
    list_filter = ("queue", "state")
    ordering = ("queue", "rank", "id")
    fields = ("name", "arguments", "task_id", "queue", "priority", "state", "due_at", "owner", "attempt", "crashes")

    @admin.display(description="task")
    def name(self, row: TaskRow) -> str:
        """Show the dotted path."""
        envelope = _envelope(row)
        return envelope if isinstance(envelope, str) else envelope.task

    @admin.display(ordering="-rank")
    def priority(self, row: TaskRow) -> int:
        """Show the priority as the caller gave it."""
        return -row.rank

    @admin.display(description="not before", ordering="due")
    def due_at(self, row: TaskRow) -> str | None:
        """Show the time of a delayed task."""
        return None if row.due is None else _moment(row.due)


@admin.register(FailedRow)
class FailedRowAdmin(StoredTask):
    """What failed for good, and why."""

    list_display = ("task", "arguments", "exception", "message", "attempts", "when")
    list_filter = ("task", "exception")
    ordering = ("-id",)
    fields = ("task", "arguments", "task_id", "queue", "exception", "message", "trace", "when", "attempts", "crashes")

    @admin.display(ordering="failed_at")
    def when(self, row: FailedRow) -> str:
        """Show the time of the failure."""
        return _moment(row.failed_at)

    @admin.display(description="traceback")
    def trace(self, row: FailedRow) -> str:
        """Show the lines of the traceback as lines."""
        return format_html("<pre>{}</pre>", row.traceback)


def _envelope(row: TaskRow | FailedRow) -> Envelope | str:
    try:
        return wire.decode(bytes(row.payload))
    except PayloadError as error:
        return f"({error})"


def _moment(microseconds: int) -> str:
    return f"{datetime.fromtimestamp(microseconds / 1_000_000, UTC):%Y-%m-%d %H:%M:%S}"
