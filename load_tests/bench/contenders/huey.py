"""Huey with threads, on Valkey, PostgreSQL and SQLite."""

from load_tests.bench.contender import NO_ASYNC, NO_ASYNC_ENQUEUE, NO_BATCH, NO_BULK, NO_UNIQUE, Contender, each_alone

CONTENDER = Contender(
    name="huey",
    module="on_huey",
    requirements=("huey==3.5.4", "redis", "hiredis", "psycopg[binary]"),
    distributions=("huey", "redis", "hiredis", "psycopg"),
    backends={"valkey": (), "postgres": (), "sqlite": ()},
    promise="is lost: taken out of the queue before it runs: at most once",
    worker=each_alone(["huey_consumer", "on_huey.huey", "--workers={concurrency}", "--worker-type=thread", "--quiet"]),
    lacks=NO_ASYNC | NO_ASYNC_ENQUEUE | NO_BATCH | NO_BULK | NO_UNIQUE,
)
