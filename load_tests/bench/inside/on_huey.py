"""Tasks in Huey."""

import json
import os

import work
from huey import PostgresHuey, RedisHuey, SqliteHuey

if url := os.environ.get("BENCH_REDIS_URL"):
    huey = RedisHuey("bench", url=url)
elif dsn := os.environ.get("BENCH_POSTGRES_DSN"):
    huey = PostgresHuey("bench", dsn=dsn)
else:
    huey = SqliteHuey("bench", filename=json.loads(os.environ["BENCH_DJANGO_DATABASE"])["NAME"])

TASKS = {
    "noop_sync": huey.task(name="noop_sync")(work.noop_sync),
    "sleep": huey.task(name="sleep")(work.sleep_sync),
    "payload": huey.task(name="payload")(work.payload_sync),
    "hold": huey.task(name="hold")(work.hold_sync),
}


def enqueue(task, args):
    TASKS[task](*args)
