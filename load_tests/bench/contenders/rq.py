"""RQ, whose worker forks for each task and runs one at a time: a concurrency means nothing to it."""

from load_tests.bench.contender import NO_ASYNC_ENQUEUE, NO_BATCH, Contender, each_alone

CONTENDER = Contender(
    name="rq",
    module="on_rq",
    requirements=("rq==3.0.0", "hiredis"),
    distributions=("rq", "redis", "hiredis"),
    backends={"valkey": ()},
    promise="is marked as failed, and not retried unless one asks for that: at most once",
    worker=each_alone(["rq", "worker", "--config=on_rq", "--quiet", "{queue}"]),
    lacks=NO_ASYNC_ENQUEUE | NO_BATCH,
)
