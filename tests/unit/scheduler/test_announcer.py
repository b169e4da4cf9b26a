"""The project's receivers learn of scheduled tasks as of any others."""

import pytest
from django.tasks import TaskResultStatus
from django.tasks.signals import task_enqueued  # noqa: TID251 - a user's receiver

from django_vtasks.brokers.base import Tick
from django_vtasks.scheduler.announcer import Announcer
from django_vtasks.signals import task_refused
from tests.unit.scheduler.stage import NOON, an_entry


class Backend:
    """Stands for the class of the backend, which is the sender."""


@pytest.fixture
def announce():
    """Tell what became of slots of three entries, in their order."""
    entries = [an_entry(name) for name in ("one", "two", "three")]
    announcer = Announcer(entries, "default", Backend)
    dues = [entry.due(NOON, NOON) for entry in entries]

    def announce(*ticks):
        announcer.tell(dues, ticks)
        return dues

    return announce


@pytest.fixture
def heard():
    """Return what the signals have told, in order."""
    heard = []

    def on_enqueued(sender, task_result, **kwargs):
        heard.append((sender, task_result))

    def on_refused(sender, task, args, kwargs, **rest):
        heard.append((sender, task.module_path))

    task_enqueued.connect(on_enqueued)
    task_refused.connect(on_refused)
    yield heard
    task_enqueued.disconnect(on_enqueued)
    task_refused.disconnect(on_refused)


def test_receivers_are_told_of_what_was_enqueued_or_refused_but_not_of_what_others_have_done(announce, heard):
    dues = announce(Tick.ENQUEUED, Tick.REFUSED, Tick.TAKEN)

    (sender, result), refused = heard
    assert sender is Backend
    assert (result.id, result.status, result.backend) == (dues[0].envelope.id, TaskResultStatus.READY, "default")
    assert result.enqueued_at.timestamp() == NOON
    assert refused == (Backend, "tests.app.tasks.add")


def test_a_receiver_that_fails_is_logged_and_keeps_nobody_from_being_told(announce, heard, caplog):
    def fail(**kwargs):
        raise OSError("broken")

    task_enqueued.connect(fail)
    try:
        announce(Tick.ENQUEUED, Tick.ENQUEUED, Tick.REFUSED)
    finally:
        task_enqueued.disconnect(fail)

    assert len(heard) == 3
    assert [record.getMessage() for record in caplog.records] == [
        "A receiver failed that was told of the scheduled task one",
        "A receiver failed that was told of the scheduled task two",
    ]
