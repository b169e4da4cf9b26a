"""Who enqueues the tasks of VTASKS_SCHEDULE; ``crontab`` is for settings.py, and reads none."""

from django_vtasks.schedule import crontab

__all__ = ["crontab"]
