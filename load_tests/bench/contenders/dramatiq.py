"""Dramatiq, with its middleware for ``async def``."""

from load_tests.bench.contender import NO_ASYNC_ENQUEUE, NO_BATCH, NO_BULK, NO_UNIQUE, Contender, one_parent

CONTENDER = Contender(
    name="dramatiq",
    module="on_dramatiq",
    requirements=("dramatiq[redis]==2.2.1", "hiredis"),
    distributions=("dramatiq", "redis", "hiredis"),
    backends={"valkey": ()},
    promise="runs again when its worker's heartbeat is 60 s old: at least once",
    worker=one_parent(
        ["dramatiq", "on_dramatiq", "--processes={processes}", "--threads={concurrency}", "--skip-logging"]
    ),
    lacks=NO_ASYNC_ENQUEUE | NO_BATCH | NO_BULK | NO_UNIQUE,
)
