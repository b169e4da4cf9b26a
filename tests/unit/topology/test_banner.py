"""What a worker says of itself when it starts, above all how many connections it may open."""

import re
from dataclasses import replace

import pytest
from django.test import override_settings

from django_vtasks.brokers.memory import MemoryBroker
from django_vtasks.topology import banner
from django_vtasks.topology.plan import QueuePlan, backend_with_broker
from tests.unit.topology.doubles import a_plan


@pytest.fixture
def plan():
    return a_plan(queues=[QueuePlan("default", 2, 20), QueuePlan("mail", 3, 5)])


@pytest.fixture
def own(plan):
    """What a broker opens for itself in each process."""
    [own] = {backend_with_broker(plan.backend).broker.capabilities.connections}
    assert own
    return own


def test_the_table_names_everything(plan, own):
    first, head, default, mail, connections = banner.lines(plan, most_connections=100)

    assert re.fullmatch(r"django-vtasks \d+\.\S+ · backend default · node north-1-abcd", first)
    assert head.split() == ["queue", "processes", "concurrency"]
    assert default.split() == ["default", "2", "20"]
    assert mail.split() == ["mail", "3", "5"]
    assert connections == f"database connections: up to {55 + 6 * own} of 100 that the server allows"
    assert len({len(head), len(default), len(mail)}) == 1


def test_where_no_server_sets_a_limit_none_is_named(plan):
    assert re.fullmatch(r"database connections: up to \d+", list(banner.lines(plan, most_connections=None))[-1])


def test_each_running_task_may_have_a_connection_beside_those_of_each_actor_and_of_the_supervisor(plan, own):
    broker = backend_with_broker(plan.backend).broker

    assert banner.expected_connections(plan, broker) == 2 + 2 * (20 + own) + 3 * (5 + own)


def test_who_stands_for_telling_of_the_store_may_have_a_connection_of_its_own(plan):
    broker = backend_with_broker(plan.backend).broker
    without = banner.expected_connections(plan, broker)
    assert without is not None

    assert banner.expected_connections(replace(plan, metrics_port=9100), broker) == without + 1


def test_a_store_that_is_no_database_has_no_line_about_connections(plan, monkeypatch):
    monkeypatch.setattr(type(backend_with_broker("default")), "broker", MemoryBroker())

    assert len(list(banner.lines(plan, most_connections=None))) == 4
    assert banner.too_many(plan, 1) is None


def test_a_server_that_may_run_out_of_connections_is_worth_a_warning(plan, own):
    expected = 2 + 55 + 5 * own

    assert banner.too_many(plan, expected) is None
    assert banner.too_many(plan, None) is None
    warning = banner.too_many(plan, expected - 1)
    assert warning is not None
    assert f"may open {expected} database connections, and the server allows {expected - 1}" in warning


def test_a_store_that_does_not_tell_its_limit_is_no_reason_not_to_start(plan, monkeypatch, caplog):
    def refuse(self):
        raise OSError("closed")

    monkeypatch.setattr(type(backend_with_broker("default").broker), "connection_limit", refuse)

    assert banner.most_connections(plan) is None
    assert "Cannot ask for the server's limit of connections" in caplog.text


@override_settings(TASKS={"default": {"BACKEND": "django_vtasks.backends.db.DatabaseTaskBackend", "OPTIONS": {}}})
def test_sqlite_has_no_limit(plan, database):
    database("default")

    assert banner.most_connections(plan) is None
