"""App configuration."""

from django.apps import AppConfig


class LibraryConfig(AppConfig):
    """Connect the journal."""

    name = "library"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import what connects itself to signals."""
        from library import journal  # noqa: F401
