"""Tasks in Taskiq."""

import os

import work
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(url=os.environ["BENCH_REDIS_URL"])

TASKS = {
    "noop": broker.register_task(work.noop, "noop"),
    "noop_sync": broker.register_task(work.noop_sync, "noop_sync"),
    "sleep": broker.register_task(work.sleep, "sleep"),
    "payload": broker.register_task(work.payload, "payload"),
    "hold": broker.register_task(work.hold, "hold"),
}


async def aprepare():
    await broker.startup()


async def aenqueue(task, args):
    await TASKS[task].kiq(*args)


async def aclose():
    await broker.shutdown()
