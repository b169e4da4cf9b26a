"""How clear_queue ends when it cannot ask, or cannot reach a store."""

import sys
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from django_vtasks.backends import db
from django_vtasks.brokers.database import DatabaseBroker
from tests.contract.given import a_task, in_an_hour, mutex, tasks
from tests.unit.test_vtasks_command import fail


@pytest.fixture
def broker(database):
    return DatabaseBroker(using=database("default"))


@pytest.fixture
def at_a_terminal(monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)


def cleared(**options):
    """Return the lines that it prints when it does not ask."""
    output = StringIO()
    call_command("clear_queue", force=True, stdout=output, **options)
    return output.getvalue().splitlines()


@pytest.mark.parametrize("error", [EOFError, KeyboardInterrupt])
def test_ctrl_d_and_ctrl_c_are_a_no(broker, at_a_terminal, monkeypatch, error):
    def end_of_input(_question):
        raise error

    monkeypatch.setattr("builtins.input", end_of_input)
    broker.push(tasks(2, queue="default"))

    with pytest.raises(CommandError, match="Nothing was deleted"):
        call_command("clear_queue")
    assert broker.depth("default").waiting == 2


def test_the_failed_are_cleared_alone_and_the_queues_without_them(broker):
    fail(broker, tasks(2, queue="default"))
    broker.push([a_task(queue="default", unique=mutex()), *tasks(1, queue="images", run_after=in_an_hour())])

    assert cleared(failed=True) == ["Deleted 2 failed tasks."]
    assert (broker.failed_count(), broker.queues()) == (0, ["default", "images"])

    fail(broker, tasks(1, queue="letters"))
    assert cleared(all_queues=True) == ["Deleted 1 tasks of queue default.", "Deleted 1 tasks of queue images."]
    assert (broker.failed_count(), broker.queues()) == (1, [])
    assert broker.push([a_task(queue="default", unique=mutex())]) == [True]
    assert cleared(all_queues=True) == ["Deleted 1 tasks of queue default."]
    assert cleared(all_queues=True) == ["Deleted 0 tasks."]


def test_one_queue_is_cleared_and_no_other(broker):
    broker.push([*tasks(2, queue="default"), *tasks(1, queue="old")])

    assert cleared(queue="old") == ["Deleted 1 tasks of queue old."]
    assert cleared() == ["Deleted 2 tasks of queue default."]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queue": "defualt"}, "There is no queue 'defualt'. Did you mean 'default'?"),
        ({"backend_alias": "defualt"}, "TASKS has no backend 'defualt'. Did you mean 'default'?"),
    ],
)
def test_a_wrong_name_is_refused_in_one_line_with_the_nearest_there_is(broker, options, message):
    with pytest.raises(CommandError) as caught:
        cleared(**options)
    assert (str(caught.value), caught.value.returncode) == (message, 1)


def test_nobody_can_be_asked_where_standard_input_is_closed(broker, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)

    with pytest.raises(CommandError, match="Nobody can be asked here"):
        call_command("clear_queue")


def test_where_nobody_can_be_asked_nothing_is_deleted_and_the_message_says_why(broker):
    broker.push(tasks(2, queue="default"))

    for options in ({}, {"all_queues": True}, {"failed": True}):
        with pytest.raises(CommandError, match=r"no terminal\. --force"):
            call_command("clear_queue", **options)
    assert broker.depth("default").waiting == 2


def test_a_database_of_no_supported_kind_is_an_error_of_usage_without_a_traceback(monkeypatch):
    monkeypatch.setattr(type(connections["default"]), "vendor", "oracle")
    db._broker.cache_clear()

    with pytest.raises(CommandError, match="not on oracle") as caught:
        call_command("clear_queue", force=True)
    assert caught.value.returncode == 1


@pytest.mark.parametrize("options", [{"queue": "default", "all_queues": True}, {"all_queues": True, "failed": True}])
def test_call_command_cannot_ask_for_two_things_at_once(broker, options):
    broker.push(tasks(2, queue="default"))

    with pytest.raises(CommandError, match="one of"):
        call_command("clear_queue", force=True, **options)
    assert broker.depth("default").waiting == 2
