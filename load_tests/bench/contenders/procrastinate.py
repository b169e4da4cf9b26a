"""Procrastinate, on PostgreSQL."""

from load_tests.bench.contender import NO_BATCH, NO_SYNC_ENQUEUE, Contender, each_alone

CONTENDER = Contender(
    name="procrastinate",
    module="on_procrastinate",
    requirements=("procrastinate==3.10.0", "psycopg[binary]"),
    distributions=("procrastinate", "psycopg"),
    backends={"postgres": ()},
    promise="stays as it is until somebody's own periodic task retries stalled jobs",
    worker=each_alone(
        [
            *("procrastinate", "--app=on_procrastinate.app", "--log-level=warning"),
            *("worker", "--concurrency={concurrency}"),
        ]
    ),
    lacks=NO_SYNC_ENQUEUE | NO_BATCH,
)
