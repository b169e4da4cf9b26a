"""App configuration of the database backend's tables."""

from django.apps import AppConfig


class VTasksDatabaseConfig(AppConfig):
    """Give the tables their label, so that they are called ``vtasks_*``."""

    name = "django_vtasks.db"
    label = "vtasks"
    verbose_name = "Tasks"
    default_auto_field = "django.db.models.BigAutoField"
