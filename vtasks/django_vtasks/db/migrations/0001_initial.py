"""The tables of the database backend, and what each database needs on top."""

from typing import Any

from django.db import migrations, models

PARTIAL_INDEXES = [
    "CREATE INDEX vtasks_task_waiting ON vtasks_task (queue, task_rank, id) WHERE state = 0",
    "CREATE INDEX vtasks_task_delayed ON vtasks_task (queue, due) WHERE state = 2",
    "CREATE INDEX vtasks_task_running ON vtasks_task (owner) WHERE state = 1",
    "CREATE INDEX vtasks_task_suspect ON vtasks_task (queue, task_rank, id) WHERE state = 3",
]

# What only one database needs, or understands. A row of the task table lives for milliseconds: vacuum early, and
# leave room in the pages. MariaDB has no partial indexes, compares text without regard to case, and gives a table the
# character set of the database, which may be unable to store what a task says.
TUNING = {
    "sqlite": PARTIAL_INDEXES,
    "postgresql": [
        *PARTIAL_INDEXES,
        (
            "ALTER TABLE vtasks_task SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01,"
            " autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0)"
        ),
    ],
    "mysql": [
        *(
            f"ALTER TABLE vtasks_{table} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
            for table in ("task", "failed", "lock", "node")
        ),
        "CREATE INDEX vtasks_task_waiting ON vtasks_task (queue, state, task_rank, id)",
        "CREATE INDEX vtasks_task_delayed ON vtasks_task (queue, state, due)",
        "CREATE INDEX vtasks_task_running ON vtasks_task (owner)",
        "CREATE INDEX vtasks_task_node ON vtasks_task (state, node)",
    ],
}


def tune(apps: Any, schema_editor: Any) -> None:
    """Set up what Django's migrations cannot say."""
    for statement in TUNING.get(schema_editor.connection.vendor, ()):
        schema_editor.execute(statement)


def untune(apps: Any, schema_editor: Any) -> None:
    """Nothing to undo: the tables go."""


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="CounterRow",
            fields=[
                ("name", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("value", models.BigIntegerField(default=0)),
            ],
            options={
                "verbose_name": "counter",
                "db_table": "vtasks_counter",
            },
        ),
        migrations.CreateModel(
            name="FailedRow",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("task_id", models.CharField(db_index=True, max_length=64)),
                ("queue", models.CharField(max_length=100)),
                ("task", models.TextField(blank=True)),
                ("exception", models.TextField()),
                ("message", models.TextField(blank=True)),
                ("traceback", models.TextField(blank=True)),
                ("failed_at", models.BigIntegerField()),
                ("attempts", models.IntegerField()),
                ("crashes", models.IntegerField()),
                ("payload", models.BinaryField()),
            ],
            options={
                "verbose_name": "failed task",
                "db_table": "vtasks_failed",
            },
        ),
        migrations.CreateModel(
            name="LockRow",
            fields=[
                (
                    "key",
                    models.CharField(db_column="lock_key", max_length=64, primary_key=True, serialize=False),
                ),
                ("task_id", models.CharField(db_index=True, max_length=64)),
                ("keep", models.BooleanField(default=False)),
                ("expires", models.BigIntegerField(db_index=True, null=True)),
            ],
            options={
                "verbose_name": "lock",
                "db_table": "vtasks_lock",
            },
        ),
        migrations.CreateModel(
            name="NodeRow",
            fields=[
                ("name", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("expires", models.BigIntegerField()),
            ],
            options={
                "verbose_name": "node",
                "db_table": "vtasks_node",
            },
        ),
        migrations.CreateModel(
            name="TaskRow",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("task_id", models.CharField(max_length=64)),
                ("queue", models.CharField(max_length=100)),
                (
                    "state",
                    models.SmallIntegerField(
                        choices=[(0, "waiting"), (1, "running"), (2, "delayed"), (3, "suspect")], default=0
                    ),
                ),
                ("rank", models.SmallIntegerField(db_column="task_rank", default=0)),
                ("due", models.BigIntegerField(null=True)),
                ("node", models.CharField(max_length=100, null=True)),
                ("owner", models.CharField(max_length=255, null=True)),
                (
                    "fence",
                    models.IntegerField(
                        db_default=0, help_text="Grows with each claim, so that a late settlement is refused."
                    ),
                ),
                ("attempt", models.IntegerField(db_default=0)),
                ("crashes", models.IntegerField(db_default=0)),
                ("payload", models.BinaryField()),
            ],
            options={
                "verbose_name": "task",
                "db_table": "vtasks_task",
            },
        ),
        migrations.RunPython(tune, untune, atomic=False),
    ]
