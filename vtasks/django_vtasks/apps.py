"""App configuration."""

from django.apps import AppConfig


class VTasksConfig(AppConfig):
    """Register the system checks and the metrics."""

    name = "django_vtasks"
    label = "django_vtasks"
    verbose_name = "django-vtasks"

    def ready(self) -> None:
        """Import what registers itself."""
        from django_vtasks import checks  # noqa: F401
        from django_vtasks.metrics import exposition

        exposition.register()
