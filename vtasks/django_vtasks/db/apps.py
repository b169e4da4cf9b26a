"""App configuration of the database backend's tables."""

from django.apps import AppConfig


class VTasksDatabaseConfig(AppConfig):
    """Give the tables their label, so that they are called ``vtasks_*``; let the backends be checked."""

    name = "django_vtasks.db"
    label = "vtasks"
    verbose_name = "Tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import Django's check of task backends: where the other app has been forgotten, it says so."""
        from django.tasks import checks  # noqa: F401
