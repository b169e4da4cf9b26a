"""SAQ with hiredis, on Valkey and on PostgreSQL."""

from load_tests.bench.contender import NO_BATCH, NO_BULK, NO_SYNC, NO_SYNC_ENQUEUE, Contender, one_parent

CONTENDER = Contender(
    name="saq",
    module="on_saq",
    requirements=("saq[hiredis,postgres]==0.26.4", "typing-extensions"),
    distributions=("saq", "redis", "hiredis", "psycopg"),
    backends={"valkey": (), "postgres": ()},
    worker=one_parent(["saq", "on_saq.settings", "--workers={processes}", "--quiet"]),
    lacks=NO_SYNC | NO_SYNC_ENQUEUE | NO_BATCH | NO_BULK | {"storm": "has no unique tasks but jobs of a given key"},
)
