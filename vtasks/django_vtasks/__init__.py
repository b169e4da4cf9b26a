"""Background tasks for Django: ``@task`` on ``django.tasks``, run by a worker that loses none."""

from django_vtasks.tasks import VTask, task

__all__ = ["VTask", "task"]
