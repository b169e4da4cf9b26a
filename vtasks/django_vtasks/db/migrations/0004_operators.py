"""What operators need: which queues are paused, and what each worker says of itself."""

from typing import Any

from django.db import migrations, models


def tune(apps: Any, schema_editor: Any) -> None:
    """Let MariaDB tell names apart by case, in a character set that has all of them."""
    if schema_editor.connection.vendor == "mysql":
        schema_editor.execute("ALTER TABLE vtasks_pause CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")


def untune(apps: Any, schema_editor: Any) -> None:
    """Nothing to undo: the table goes."""


class Migration(migrations.Migration):
    dependencies = [
        ("vtasks", "0003_standings"),
    ]

    operations = [
        migrations.CreateModel(
            name="PauseRow",
            fields=[
                ("queue", models.CharField(max_length=100, primary_key=True, serialize=False)),
            ],
            options={
                "verbose_name": "pause",
                "db_table": "vtasks_pause",
            },
        ),
        migrations.AddField(
            model_name="noderow",
            name="report",
            field=models.TextField(null=True),
        ),
        migrations.RunPython(tune, untune, atomic=False),
    ]
