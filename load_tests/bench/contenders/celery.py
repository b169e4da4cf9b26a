"""Celery with threads, of which it has no faster pool for tasks that wait."""

from load_tests.bench.contender import NO_ASYNC, NO_ASYNC_ENQUEUE, NO_BATCH, NO_BULK, NO_UNIQUE, Contender, each_alone

CONTENDER = Contender(
    name="celery",
    module="on_celery",
    requirements=("celery[redis]==5.7.0", "hiredis"),
    distributions=("celery", "kombu", "redis", "hiredis"),
    backends={"valkey": ()},
    promise="is lost: acknowledged before it runs, unless one asks for acks_late: at most once",
    worker=each_alone(
        [
            *("celery", "--app=on_celery", "--quiet", "worker", "--pool=threads", "--concurrency={concurrency}"),
            *("--loglevel=WARNING", "--hostname=bench-{number}@%h"),
        ]
    ),
    lacks=NO_ASYNC | NO_ASYNC_ENQUEUE | NO_BATCH | NO_BULK | NO_UNIQUE,
)
