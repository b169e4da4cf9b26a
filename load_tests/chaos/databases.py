"""Databases whose rows and files others hold, or whose transactions never end."""

import contextlib
import itertools
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

from load_tests.chaos import queues
from load_tests.chaos.run import LEASE, Run
from load_tests.chaos.scenario import Bounds, scenario
from load_tests.chaos.servers import kill_backends

ROWS = frozenset({"postgres", "mariadb"})
BUSY_TIMEOUT = 5.0
"""What OPTIONS say how long SQLite waits for a lock."""
LATE = 1.0
HELD_UP = "enqueues that failed or took a second"
KEPT = "dead rows that the snapshot kept"
AT_REST = 200
"""Dead rows that a server may have not removed yet though nobody needs them."""
MET = "waits of ours and a script's for each other, in samples"
ATTEMPTS = 10
LOCKED = {
    "waits for a lock of all rows": {
        # Where it repeats reads, PostgreSQL refuses to lock a row that has changed since.
        "postgres": "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SELECT * FROM vtasks_task FOR UPDATE",
        "mariadb": "SELECT * FROM vtasks_task FOR UPDATE",
    },
    "waits for a lock of the table": {
        "postgres": "LOCK TABLE vtasks_task IN ACCESS EXCLUSIVE MODE",
        "mariadb": "LOCK TABLES vtasks_task WRITE",
    },
}
"""What bites, and the statement that makes others wait so."""
DEADLOCKS = 10.0
"""A second, that two connections may cost which take rows in another order."""
MEETINGS = {
    "postgres": """
        SELECT count(*) FROM pg_stat_activity AS waiting, unnest(pg_blocking_pids(waiting.pid)) AS holder
        WHERE wait_event_type = 'Lock' AND (waiting.pid IN ({ours})) <> (holder IN ({ours}))
        """,
    "mariadb": """
        SELECT count(*) FROM information_schema.innodb_lock_waits
        JOIN information_schema.innodb_trx AS waiting ON waiting.trx_id = requesting_trx_id
        JOIN information_schema.innodb_trx AS holder ON holder.trx_id = blocking_trx_id
        WHERE (waiting.trx_mysql_thread_id IN ({ours})) <> (holder.trx_mysql_thread_id IN ({ours}))
        """,
}
"""Queries of how many waits there are, right now, of some connections for others, or of others for them."""
NEWS_EVERY = {"postgres": 0.01, "mariadb": 0.11}
"""Seconds between two of them; MariaDB answers as the last time until nobody has asked for 0.1 s."""


@scenario(42, bites=(HELD_UP,), bounds=Bounds(back=10.0), stores=frozenset({"sqlite"}), seconds=20.0)
def locked_file(run: Run) -> None:
    """Hold SQLite's only lock for longer than anybody waits for it, and longer than the lease."""
    began = time.monotonic()
    for _ in run.beats(1.0, 2.0):
        with run.outage("locked", after=6.0), _sqlite(run) as connection:
            connection.execute("BEGIN IMMEDIATE")
            run.pass_time(run.chance.uniform(BUSY_TIMEOUT + 1.0, BUSY_TIMEOUT + LEASE))
            connection.execute("ROLLBACK")
    run.pass_time(1.0)
    run.bit(HELD_UP, queues.held_up(run.ledger.events(), began, time.monotonic()))


@scenario(42, bites=("readers that kept the log",), stores=frozenset({"sqlite"}))
def stalled_checkpoint(run: Run) -> None:
    """Keep a reader open, so that SQLite's log cannot be written back and grows, and look how long tasks wait."""
    wal, began = run.ground.directory / "db.sqlite3-wal", time.monotonic()
    with _sqlite(run) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM vtasks_task").fetchone()
        run.pass_time(run.seconds)
        run.facts["MB of log"] = round(wal.stat().st_size / 1e6, 1)
        run.bit("readers that kept the log", int(wal.stat().st_size > 5_000_000))  # noqa: PLR2004 - what it is kept below
        until = time.monotonic()
        connection.execute("ROLLBACK")
    _judge_waits(run, began, until, "a reader")


@scenario(41, 44, bites=tuple(LOCKED), bounds=Bounds(back=10.0), stores=ROWS, seconds=15.0)
def locked_rows(run: Run) -> None:
    """Lock all rows, or the whole table, in turns for up to two seconds at a time."""
    for _, (waits, statements) in zip(run.beats(0.3, 1.0), itertools.cycle(LOCKED.items()), strict=False):
        with run.outage("locked", after=2.0), _transaction(run) as cursor:
            _lock(run, cursor, statements[run.ground.kind])
            run.pass_time(run.chance.uniform(0.5, 2.0))
            run.bit(waits, _waiting(run))
            if run.ground.kind == "mariadb":
                cursor.execute("UNLOCK TABLES")


def _lock(run: Run, cursor: Any, statement: str) -> None:
    """Lock, also when transactions that cross undo ours."""
    for _ in range(ATTEMPTS):
        with contextlib.suppress(_errors(run.ground.kind)):
            cursor.execute(statement)
            return
        cursor.connection.rollback()
    raise AssertionError(f"no lock in {ATTEMPTS} attempts")


@scenario(41, 44, bites=(MET,), stores=ROWS, bounds=Bounds(back=5.0))
def crossing_transactions(run: Run) -> None:
    """Update rows of tasks in an order of one's own, over and over, as an operator's script would."""
    end, undone = time.monotonic() + run.seconds, list[Exception]()
    with contextlib.ExitStack() as stack:
        cursors = [stack.enter_context(_transaction(run)) for _ in range(2)]
        ours, before = [_connection_id(run.ground.kind, cursor) for cursor in cursors], _deadlocks(run)
        watcher = stack.enter_context(_transaction(run))
        threads = [threading.Thread(target=_cross, args=[run, cursor, end, undone]) for cursor in cursors]
        for thread in threads:
            thread.start()
        while time.monotonic() < end:
            run.bit(MET, _met(run.ground.kind, watcher, ours))
            run.pass_time(NEWS_EVERY[run.ground.kind])
        for thread in threads:
            thread.join()
    run.healed.append(time.monotonic())  # nothing runs again for it: what is undone is tried once more
    deadlocks = _deadlocks(run) - before
    run.facts |= {"deadlocks": deadlocks, "transactions undone": len(undone)}
    run.expect(deadlocks <= DEADLOCKS * run.seconds, f"{deadlocks} deadlocks in {run.seconds:g} s")


@scenario(43, bites=(KEPT,), stores=ROWS, seconds=20.0, rate=200.0)
def old_snapshot(run: Run) -> None:
    """Keep a snapshot open for 20 s, so that no dead row can be removed, and look how long tasks wait.

    Others keep one for minutes: how much slower tasks become by then is not tried here.
    """
    began, before_it = time.monotonic(), _dead_rows(run)
    with _transaction(run) as cursor:
        cursor.execute("SELECT count(*) FROM vtasks_task")
        run.pass_time(run.seconds)
        until = time.monotonic()
        kept = _dead_rows(run) - before_it
        run.bit(KEPT, kept if kept > AT_REST else 0)
    _judge_waits(run, began, until, "an old snapshot")


@scenario(
    44, bites=("connections dropped as idle",), stores=frozenset({"mariadb"}), bounds=Bounds(back=5.0), seconds=15.0,
    environment={"VTASKS_LEASE": "15"},
)  # fmt: skip
def impatient_server(run: Run) -> None:
    """Let MariaDB end each connection that says nothing for a second, which is more often than a lease is renewed."""
    from django.db import connection

    from tests.integration.outages import backends

    with _transaction(run) as cursor:
        cursor.execute("SET GLOBAL wait_timeout = 1")
    with run.outage("connections killed"):
        killed = frozenset(kill_backends())  # those that come are under the new rule
    run.until(lambda: killed.isdisjoint(backends("default")), "the killed are gone, and counted")
    connection.close()  # it would be idle, too
    before = _dropped(run)
    run.pass_time(run.seconds)
    run.bit("connections dropped as idle", _dropped(run) - before)
    run.healed.append(time.monotonic())  # nothing runs again for it: no call was under way


def _dead_rows(run: Run) -> int:
    """Return how many versions of rows the server has kept although it has just removed what nobody can see."""
    with _transaction(run) as cursor:
        if run.ground.kind == "postgres":
            cursor.connection.autocommit = True
            cursor.execute("VACUUM vtasks_task")
            cursor.execute("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'vtasks_task'")
            return int(cursor.fetchone()[0])
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length'")
        return int(cursor.fetchone()[1])


def _dropped(run: Run) -> int:
    with _transaction(run) as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Aborted_clients'")
        return int(cursor.fetchone()[1])


def _judge_waits(run: Run, began: float, until: float, what: str) -> None:
    """Hold what calls waited at the end of some time against what they waited before it."""
    events = run.ledger.events()
    spans = queues.waits(events, "default", 0.0, began), queues.waits(events, "default", until - 6.0, until - 1.5)
    run.expect(all(spans), "nothing was enqueued in one of the times")
    before, beside = (queues.share(waits, 0.99) for waits in spans)
    run.facts |= {"p99 wait before": round(before, 3), "p99 wait beside": round(beside, 3)}
    run.expect(beside < before + LATE, f"tasks wait {beside:.2f} s beside {what}, {before:.2f} s before")


@contextlib.contextmanager
def _sqlite(run: Run) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(run.ground.directory / "db.sqlite3", timeout=30.0)) as connection:
        connection.isolation_level = None
        yield connection


@contextlib.contextmanager
def _transaction(run: Run) -> Iterator[Any]:
    """Yield the cursor of a connection of its own, in a transaction that is rolled back at the end."""
    where = run.ground.settings()["DATABASES"]["default"]
    if run.ground.kind == "postgres":
        import psycopg

        with contextlib.closing(psycopg.connect(host=where["HOST"], user="vtasks", dbname=where["NAME"])) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            yield connection.cursor()
        return
    import MySQLdb

    with contextlib.closing(MySQLdb.connect(unix_socket=where["HOST"], user="root", db=where["NAME"])) as maria:
        yield maria.cursor()


def _cross(run: Run, cursor: Any, end: float, undone: list[Exception]) -> None:
    """Be the script; ``undone`` takes in why the server has undone transactions."""
    while time.monotonic() < end:
        try:
            for order in ("ASC", "DESC"):
                cursor.execute(f"SELECT id FROM vtasks_task ORDER BY id {order} LIMIT 3")  # noqa: S608
                for (row,) in cursor.fetchall():
                    cursor.execute("UPDATE vtasks_task SET crashes = crashes WHERE id = %s", [row])
                    time.sleep(0.002)
        except _errors(run.ground.kind) as error:  # a deadlock is what it is after
            undone.append(error)
        cursor.connection.rollback()


def _errors(kind: str) -> type[Exception]:
    """Return what the driver raises when the server has undone a transaction."""
    if kind == "postgres":
        import psycopg

        return psycopg.OperationalError
    import MySQLdb

    return MySQLdb.OperationalError  # type: ignore[no-any-return] # the library has no types


def _connection_id(kind: str, cursor: Any) -> int:
    """Return by what number the server knows a connection."""
    cursor.execute("SELECT pg_backend_pid()" if kind == "postgres" else "SELECT CONNECTION_ID()")
    return int(cursor.fetchone()[0])


def _met(kind: str, cursor: Any, ours: list[int]) -> int:
    """Return how many waits for locks there are in this moment between these connections and others."""
    marks = ", ".join(map(str, ours))
    cursor.execute(MEETINGS[kind].format(ours=marks))
    (found,) = cursor.fetchone()
    cursor.connection.rollback()  # what the server tells in one transaction is of one moment
    return int(found)


def _deadlocks(run: Run) -> int:
    """Return how many the server has resolved so far."""
    with _transaction(run) as cursor:
        if run.ground.kind == "postgres":
            cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            return int(cursor.fetchone()[0])
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")
        return int(cursor.fetchone()[1])


def _waiting(run: Run) -> int:
    """Return how many connections wait for a lock."""
    with _transaction(run) as cursor:
        if run.ground.kind == "postgres":
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        else:
            cursor.execute(
                "SELECT count(*) FROM information_schema.processlist WHERE db = 'chaos' AND time_ms > 300"
                " AND command <> 'Sleep' AND id <> CONNECTION_ID()"
            )
        return int(cursor.fetchone()[0])
