"""arq with hiredis."""

from load_tests.bench.contender import NO_BATCH, NO_BULK, NO_SYNC, NO_SYNC_ENQUEUE, Contender, each_alone

CONTENDER = Contender(
    name="arq",
    module="on_arq",
    requirements=("arq==0.28.0", "hiredis"),
    distributions=("arq", "redis", "hiredis"),
    backends={"valkey": ()},
    worker=each_alone(["arq", "on_arq.WorkerSettings", "--custom-log-dict=on_arq.LOGGING"]),
    lacks=NO_SYNC | NO_SYNC_ENQUEUE | NO_BATCH | NO_BULK | {"storm": "has no unique tasks but jobs of a given id"},
)
