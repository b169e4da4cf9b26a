"""Taskiq on streams, which are its broker with acknowledgements, and hiredis."""

from load_tests.bench.contender import NO_BATCH, NO_BULK, NO_SYNC_ENQUEUE, NO_UNIQUE, Contender, one_parent

CONTENDER = Contender(
    name="taskiq",
    module="on_taskiq",
    requirements=("taskiq==0.13.0", "taskiq-redis==1.2.4", "hiredis", "uvloop"),
    distributions=("taskiq", "taskiq-redis", "redis", "hiredis", "uvloop"),
    backends={"valkey": ()},
    promise="runs again after 10 minutes without an acknowledgement, which comes when it is done: at least once",
    worker=one_parent(
        [
            *("taskiq", "worker", "on_taskiq:broker", "--workers={processes}", "--max-async-tasks={concurrency}"),
            *("--max-threadpool-threads={concurrency}", "--log-level=WARNING"),
        ]
    ),
    lacks=NO_SYNC_ENQUEUE | NO_BATCH | NO_BULK | NO_UNIQUE,
)
