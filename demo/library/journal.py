"""Writes down every task that ends, through Django's own signal."""

from typing import Any

from django.dispatch import receiver
from django.tasks import TaskResult
from django.tasks.signals import task_finished

from library.models import Run


@receiver(task_finished, dispatch_uid="library.journal")
def write_down(sender: type, task_result: TaskResult, **kwargs: Any) -> None:
    """Make a Run of a result."""
    # A task that has ended has all three times.
    Run.objects.create(  # type: ignore[misc]
        task_id=task_result.id,
        task=task_result.task.module_path,
        arguments=", ".join(map(repr, task_result.args)),
        queue=task_result.task.queue_name,
        priority=task_result.task.priority,
        failure=task_result.errors[-1].exception_class_path if task_result.errors else "",
        enqueued_at=task_result.enqueued_at,
        started_at=task_result.started_at,
        finished_at=task_result.finished_at,
    )
