"""From when on an entry of the schedule is due; what is there already counts as not registered."""

from typing import Any

from django.db import migrations, models


def tune(apps: Any, schema_editor: Any) -> None:
    """Leave room in the pages: each row is written anew at every slot."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE vtasks_slot SET (fillfactor = 50)")


def untune(apps: Any, schema_editor: Any) -> None:
    """Give the room back, and forget entries that the table was unable to keep before."""
    schema_editor.execute("DELETE FROM vtasks_slot WHERE slot IS NULL")
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE vtasks_slot RESET (fillfactor)")


class Migration(migrations.Migration):
    dependencies = [
        ("vtasks", "0002_schedule"),
    ]

    operations = [
        migrations.AddField(
            model_name="slotrow",
            name="timetable",
            field=models.TextField(null=True),
        ),
        migrations.AddField(
            model_name="slotrow",
            name="since",
            field=models.BigIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="slotrow",
            name="slot",
            field=models.BigIntegerField(null=True),
        ),
        migrations.RunPython(tune, untune, atomic=False),
    ]
