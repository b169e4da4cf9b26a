"""SAQ with hiredis, on Valkey and on PostgreSQL."""

from load_tests.bench.contender import NO_BATCH, NO_BULK, NO_SYNC, NO_SYNC_ENQUEUE, Contender, one_parent

CONTENDER = Contender(
    name="saq",
    module="on_saq",
    # "hiredis" alone would let in redis 8, which hangs up on each wait for work after 5 s, on all 100 connections.
    requirements=("saq[redis,hiredis,postgres]==0.26.4", "typing-extensions"),
    distributions=("saq", "redis", "hiredis", "psycopg"),
    backends={"valkey": (), "postgres": ()},
    promise="is aborted by a sweep, as it has one attempt and 10 s, unless one gives it more: at most once",
    worker=one_parent(["saq", "on_saq.settings", "--workers={processes}", "--quiet"]),
    lacks=NO_SYNC | NO_SYNC_ENQUEUE | NO_BATCH | NO_BULK,
)
