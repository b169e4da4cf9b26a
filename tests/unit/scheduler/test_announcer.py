"""The project's receivers learn of scheduled tasks as of any others."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError, connections
from django.tasks import TaskResultStatus
from django.tasks.signals import task_enqueued  # noqa: TID251 - a user's receiver

from django_vtasks.brokers.base import Tick
from django_vtasks.scheduler.announcer import Announcer
from django_vtasks.signals import task_refused
from tests import databases
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
        announcer.tell(dues[: len(ticks)], ticks)
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


def test_a_database_connection_that_breaks_under_a_receiver_is_replaced(announce):
    """The receivers are told on a thread that no request ends."""
    databases.require_server("postgres")
    sessions = []

    def use_the_database(**kwargs):
        with connections["postgres"].cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            sessions.append(cursor.fetchone()[0])

    def tell_and_break_and_tell():
        connection = connections["postgres"]
        connection.settings_dict = connection.settings_dict | {"NAME": "postgres", "CONN_MAX_AGE": None}
        announce(Tick.ENQUEUED)
        announce(Tick.ENQUEUED)
        with pytest.raises(OperationalError), connection.wrap_database_errors:
            connection.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        for _ in range(3):
            announce(Tick.ENQUEUED)
        connections.close_all()

    task_enqueued.connect(use_the_database)
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(tell_and_break_and_tell).result()
    finally:
        task_enqueued.disconnect(use_the_database)

    kept, *others = sessions
    assert others[0] == kept
    assert len(others) == 4
    assert len(set(others[1:])) == 1
    assert kept not in others[1:]
