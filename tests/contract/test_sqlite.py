"""The contract in SQLite."""

from tests.contract.database import DatabaseContract, LooksBeforeItLocks

NORMAL, FULL = 1, 2


class TestSQLite(LooksBeforeItLocks, DatabaseContract):
    alias = "default"

    def test_a_slot_waits_for_the_disk_though_claims_do_not(self, broker):
        """A loss of power would take the task with it, and nobody ticks a slot again."""

        def level(connection, then=None):
            with connection.cursor() as cursor:
                if then is not None:
                    cursor.execute(f"PRAGMA synchronous = {then}")
                cursor.execute("PRAGMA synchronous")
                return cursor.fetchone()[0]

        def look(connection):
            level(connection, then=FULL)  # which is the default, and what the tests' settings relax
            broker._dialect.prepare(connection)
            relaxed = level(connection)
            with broker._dialect.durable_transaction(connection):
                durable = level(connection)
            return relaxed, durable, level(connection)

        assert broker._apart(look) == (NORMAL, FULL, NORMAL)
