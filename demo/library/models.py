"""What the tasks leave behind."""

from django.db import models


class Count(models.Model):
    """How often a word occurs in a text; without a word, how many words the text has."""

    text = models.CharField(max_length=50)
    word = models.CharField(max_length=50, blank=True)
    times = models.IntegerField()
    counted_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.word or 'all words'} in {self.text}: {self.times}"


class Mail(models.Model):
    """An e-mail that was sent; ``kind`` is the name of the task that sent it."""

    kind = models.CharField(max_length=50)
    to = models.EmailField()
    subject = models.CharField(max_length=200)
    sent_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.subject} to {self.to}"


class Report(models.Model):
    """A file that was written under ``reports``."""

    file = models.CharField(max_length=100)
    written_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.file


class Run(models.Model):
    """A task that has ended, one way or the other; the journal writes it."""

    task_id = models.CharField(max_length=64, unique=True)
    task = models.CharField(max_length=200)
    arguments = models.TextField(blank=True)
    queue = models.CharField(max_length=100)
    priority = models.SmallIntegerField()
    failure = models.CharField(max_length=200, blank=True, help_text="The class of the exception, if there was one.")
    enqueued_at = models.DateTimeField()
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name}({self.arguments})"

    @property
    def name(self) -> str:
        """Return the name of the task's function."""
        return self.task.rpartition(".")[2]

    @property
    def took(self) -> float:
        """Return how many seconds the task ran."""
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def waited(self) -> float:
        """Return how many seconds passed between enqueue and start."""
        return (self.started_at - self.enqueued_at).total_seconds()
