"""The contract in MariaDB."""

from django.db import connections

from tests.contract.database import LooksBeforeItLocks, ServerContract
from tests.contract.given import in_an_hour, tasks


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
