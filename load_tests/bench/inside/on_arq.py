"""Tasks in arq."""

import os

import work
from arq import create_pool
from arq.connections import RedisSettings

LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "WARNING"}}
_redis = RedisSettings.from_dsn(os.environ["BENCH_REDIS_URL"])
_pool = None


async def noop(ctx, number):
    work.record(number)


async def sleep(ctx, number):
    await work.sleep(number)


async def payload(ctx, number, text):
    work.record(number)


async def hold(ctx, number):
    await work.hold(number)


class WorkerSettings:
    functions = [noop, sleep, payload, hold]  # noqa: RUF012 - as in arq's documentation
    redis_settings = _redis
    max_jobs = int(os.environ.get("BENCH_CONCURRENCY", "100"))


async def aprepare():
    global _pool
    _pool = await create_pool(_redis)


async def aenqueue(task, args):
    await _pool.enqueue_job(task, *args)


async def aenqueue_unique(task, args):
    await _pool.enqueue_job(task, *args, _job_id=f"{task}-{args[0]}")


async def aclose():
    await _pool.aclose()
