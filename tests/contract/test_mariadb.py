"""The contract in MariaDB."""

import threading

from django.db import connections

from django_vtasks.brokers.database import mysql
from django_vtasks.brokers.database.dialect import write_transaction
from tests.contract.database import LooksBeforeItLocks, ServerContract
from tests.contract.given import a_task, in_an_hour, tasks
from tests.contract.steps import AT_ONCE, SOON


class TestMariaDB(LooksBeforeItLocks, ServerContract):
    alias = "mariadb"

    def rows_read(self):
        with connections[self.alias].cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%%'")
            return sum(int(count) for _, count in cursor.fetchall())

    def test_a_clear_looks_at_each_task_of_its_queue_once_and_at_no_other(self, broker):
        broker.push(tasks(5_000, queue="images"))
        broker.push([*tasks(8_000), *tasks(1_000, priority=3), *tasks(1_000, run_after=in_an_hour())])
        before = self.rows_read()

        assert broker.clear("mail") == 10_000

        assert self.rows_read() - before < 25_000  # once, and once more to delete it
        assert broker.depth("images").waiting == 5_000

    def test_what_a_client_has_locked_that_vanished_in_a_transaction_is_free_soon(
        self, broker, second_broker, monkeypatch
    ):
        monkeypatch.setattr(mysql, "IDLE_TRANSACTION", 1)
        broker.push([a_task()])
        has_locked, is_over = threading.Event(), threading.Event()

        def lock_and_say_nothing(connection):
            with write_transaction(connection), connection.cursor() as cursor:
                cursor.execute("SELECT id FROM vtasks_task FOR UPDATE")
                has_locked.set()
                is_over.wait(SOON)

        def lock_at_once(connection):
            with write_transaction(connection), connection.cursor() as cursor:
                cursor.execute("SELECT id FROM vtasks_task FOR UPDATE")
                return len(cursor.fetchall())

        broker._gateway.submit(lock_and_say_nothing)
        assert has_locked.wait(SOON)
        try:
            assert second_broker._gateway.submit(lock_at_once).result(AT_ONCE) == 1
        finally:
            is_over.set()
