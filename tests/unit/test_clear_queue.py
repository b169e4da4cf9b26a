"""How clear_queue ends when it cannot ask, or cannot reach a store."""

import sys

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from django_vtasks.backends import db
from django_vtasks.brokers.database import DatabaseBroker
from tests.contract.given import tasks


@pytest.fixture
def broker(database):
    return DatabaseBroker(using=database("default"))


@pytest.fixture
def at_a_terminal(monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)


def test_the_end_of_the_input_is_a_no(broker, at_a_terminal, monkeypatch):
    def end_of_input(_question):
        raise EOFError

    monkeypatch.setattr("builtins.input", end_of_input)
    broker.push(tasks(2, queue="default"))

    with pytest.raises(CommandError, match="Nothing was deleted"):
        call_command("clear_queue")
    assert broker.depth("default").waiting == 2


def test_a_database_of_no_supported_kind_is_an_error_of_usage_without_a_traceback(monkeypatch):
    monkeypatch.setattr(type(connections["default"]), "vendor", "oracle")
    db._broker.cache_clear()

    with pytest.raises(CommandError, match="not on oracle") as caught:
        call_command("clear_queue", force=True)
    assert caught.value.returncode == 2
