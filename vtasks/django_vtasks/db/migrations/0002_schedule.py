"""The tables of the scheduler: who leads, and which slots are done."""

from typing import Any

from django.db import migrations, models


def tune(apps: Any, schema_editor: Any) -> None:
    """Let MariaDB tell names apart by case, in a character set that has all of them."""
    if schema_editor.connection.vendor == "mysql":
        for table in ("vtasks_leader", "vtasks_slot"):
            schema_editor.execute(f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")


def untune(apps: Any, schema_editor: Any) -> None:
    """Nothing to undo: the tables go."""


class Migration(migrations.Migration):
    dependencies = [
        ("vtasks", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="LeaderRow",
            fields=[
                ("role", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("node", models.CharField(max_length=100)),
                ("number", models.BigIntegerField()),
                ("expires", models.BigIntegerField()),
            ],
            options={
                "verbose_name": "leader",
                "db_table": "vtasks_leader",
            },
        ),
        migrations.CreateModel(
            name="SlotRow",
            fields=[
                ("entry", models.CharField(max_length=200, primary_key=True, serialize=False)),
                ("slot", models.BigIntegerField()),
            ],
            options={
                "verbose_name": "slot",
                "db_table": "vtasks_slot",
            },
        ),
        migrations.RunPython(tune, untune, atomic=False),
    ]
