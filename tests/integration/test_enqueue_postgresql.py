"""An enqueue on PostgreSQL treats the project's connection as Django does."""

from typing import Any

import pytest
from django.db import connections, transaction

from django_vtasks.brokers.database import DatabaseBroker
from django_vtasks.brokers.database.postgresql import COPY_FROM
from django_vtasks.db.models import TaskRow
from tests.contract.given import a_task, mutex, tasks
from tests.contract.threads import elsewhere
from tests.integration.outages import kill_backend

ALIAS = "postgres"


@pytest.fixture
def broker(database):
    return DatabaseBroker(using=database(ALIAS))


def enqueued():
    return elsewhere(TaskRow.objects.using(ALIAS).count)


@pytest.mark.parametrize("count", [1, COPY_FROM], ids=["insert", "copy"])
def test_a_connection_that_broke_between_two_requests_is_replaced_when_the_project_wants_it_checked(broker, count):
    connection: Any = connections[ALIAS]
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [backend] = cursor.fetchone()
    connection.health_check_enabled, connection.health_check_done = True, False
    elsewhere(kill_backend, ALIAS, backend)

    assert broker.push(tasks(count)) == [True] * count
    assert enqueued() == count


def test_a_transaction_by_hand_has_its_tasks(broker):
    transaction.set_autocommit(False, using=ALIAS)
    try:
        assert broker.push([a_task(), a_task(unique=mutex())]) == [True, True]
        assert enqueued() == 0
        transaction.commit(using=ALIAS)
        assert enqueued() == 2
        broker.push(tasks(1))
        transaction.rollback(using=ALIAS)
    finally:
        transaction.set_autocommit(True, using=ALIAS)

    assert enqueued() == 2
