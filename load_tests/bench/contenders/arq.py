"""arq with hiredis."""

from load_tests.bench.contender import NO_BATCH, NO_BULK, NO_SYNC, NO_SYNC_ENQUEUE, Contender, each_alone

CONTENDER = Contender(
    name="arq",
    module="on_arq",
    requirements=("arq==0.28.0", "hiredis"),
    distributions=("arq", "redis", "hiredis"),
    backends={"valkey": ()},
    promise="runs again when its mark of 310 s has run out: at least once",
    worker=each_alone(["arq", "on_arq.WorkerSettings", "--custom-log-dict=on_arq.LOGGING"]),
    lacks=NO_SYNC | NO_SYNC_ENQUEUE | NO_BATCH | NO_BULK,
)
