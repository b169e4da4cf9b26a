"""Tasks in SAQ."""

import os

import work
from saq import Queue

queue = Queue.from_url(os.environ.get("BENCH_POSTGRES_URL") or os.environ["BENCH_REDIS_URL"])


async def noop(ctx, *, number):
    work.record(number)


async def sleep(ctx, *, number):
    await work.sleep(number)


async def payload(ctx, *, number, text):
    work.record(number)


async def hold(ctx, *, number):
    await work.hold(number)


settings = {
    "queue": queue,
    "functions": [noop, sleep, payload, hold],
    "concurrency": int(os.environ.get("BENCH_CONCURRENCY", "100")),
}


async def aprepare():
    await queue.connect()


async def aenqueue(task, args):
    await queue.enqueue(task, **dict(zip(("number", "text"), args, strict=False)))


async def aenqueue_unique(task, args):
    await queue.enqueue(task, number=args[0], key=f"{task}-{args[0]}")


async def aclose():
    await queue.disconnect()
