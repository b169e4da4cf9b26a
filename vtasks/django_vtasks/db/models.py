"""The tables; times are microseconds since the epoch by the database's clock, so that one SQL serves all."""

from django.db import models


class TaskState(models.IntegerChoices):
    """Where a row of the task table stands."""

    WAITING = 0, "waiting"
    RUNNING = 1, "running"
    DELAYED = 2, "delayed"
    SUSPECT = 3, "suspect"


class TaskRow(models.Model):
    """A task that has not ended yet; ``id`` is the order of arrival.

    The indexes are made by the first migration, for each database its own: partial where it knows partial ones.
    A migration that makes SQLite copy the table must make them again.
    """

    id = models.BigAutoField(primary_key=True)
    task_id = models.CharField(max_length=64)
    queue = models.CharField(max_length=100)
    state = models.SmallIntegerField(choices=TaskState, default=TaskState.WAITING)
    # Minus the priority: every index then ascends, which MariaDB before 10.8 needs.
    rank = models.SmallIntegerField(default=0, db_column="task_rank")  # RANK is reserved in MySQL
    due = models.BigIntegerField(null=True)
    # NULL, not "": nobody; it takes no space in a row that is written three times.
    node = models.CharField(max_length=100, null=True)  # noqa: DJ001
    owner = models.CharField(max_length=255, null=True)  # noqa: DJ001
    fence = models.IntegerField(db_default=0, help_text="Grows with each claim, so that a late settlement is refused.")
    attempt = models.IntegerField(db_default=0)
    crashes = models.IntegerField(db_default=0)
    payload = models.BinaryField()

    class Meta:
        db_table = "vtasks_task"
        verbose_name = "task"

    def __str__(self) -> str:
        return self.task_id


class LockRow(models.Model):
    """The lock of a unique task; ``keep`` says that it outlives the task."""

    key = models.CharField(max_length=64, primary_key=True, db_column="lock_key")  # KEY is reserved in MySQL
    task_id = models.CharField(max_length=64, db_index=True)
    keep = models.BooleanField(default=False)
    expires = models.BigIntegerField(null=True, db_index=True)

    class Meta:
        db_table = "vtasks_lock"
        verbose_name = "lock"

    def __str__(self) -> str:
        return self.key


class FailedRow(models.Model):
    """A task that failed for good; the oldest go when the list is full."""

    id = models.BigAutoField(primary_key=True)
    task_id = models.CharField(max_length=64, db_index=True)
    queue = models.CharField(max_length=100)
    task = models.TextField(blank=True)
    exception = models.TextField()
    message = models.TextField(blank=True)
    traceback = models.TextField(blank=True)
    failed_at = models.BigIntegerField()
    attempts = models.IntegerField()
    crashes = models.IntegerField()
    payload = models.BinaryField()

    class Meta:
        db_table = "vtasks_failed"
        verbose_name = "failed task"

    def __str__(self) -> str:
        return self.task_id


class NodeRow(models.Model):
    """A live worker host or process tree, the end of its lease, and what it last said of itself, in JSON."""

    name = models.CharField(max_length=100, primary_key=True)
    expires = models.BigIntegerField()
    report = models.TextField(null=True)  # noqa: DJ001

    class Meta:
        db_table = "vtasks_node"
        verbose_name = "node"

    def __str__(self) -> str:
        return self.name


class LeaderRow(models.Model):
    """Who leads in a role, and the end of that; ``number`` grows with each change."""

    role = models.CharField(max_length=64, primary_key=True)
    node = models.CharField(max_length=100)
    number = models.BigIntegerField()
    expires = models.BigIntegerField()

    class Meta:
        db_table = "vtasks_leader"
        verbose_name = "leader"

    def __str__(self) -> str:
        return self.role


class SlotRow(models.Model):
    """From when on an entry of the schedule is due, and its last slot that has been enqueued, if any.

    An entry without a timetable is not registered: what stays of it is a slot that was ahead of the database's clock.
    """

    entry = models.CharField(max_length=200, primary_key=True)
    timetable = models.TextField(null=True)  # noqa: DJ001
    since = models.BigIntegerField(default=0)
    slot = models.BigIntegerField(null=True)

    class Meta:
        db_table = "vtasks_slot"
        verbose_name = "slot"

    def __str__(self) -> str:
        return self.entry


class PauseRow(models.Model):
    """A queue of which nothing is claimed."""

    queue = models.CharField(max_length=100, primary_key=True)

    class Meta:
        db_table = "vtasks_pause"
        verbose_name = "pause"

    def __str__(self) -> str:
        return self.queue


class CounterRow(models.Model):
    """A number that only grows, such as how many failed tasks were evicted."""

    name = models.CharField(max_length=64, primary_key=True)
    value = models.BigIntegerField(default=0)

    class Meta:
        db_table = "vtasks_counter"
        verbose_name = "counter"

    def __str__(self) -> str:
        return self.name
