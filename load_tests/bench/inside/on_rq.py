"""Tasks in RQ, whose processes of one task each end without flushing."""

import os
from contextlib import suppress

import work
from recorder import flush, record
from redis import Redis
from rq import Queue
from rq.exceptions import DuplicateJobError

REDIS_URL = os.environ["BENCH_REDIS_URL"]
queue = Queue("default", connection=Redis.from_url(REDIS_URL))


async def noop(number):
    record(number)
    flush()


def noop_sync(number):
    record(number)
    flush()


def sleep(number):
    record(number)
    flush()
    work.time.sleep(work.SLEEP)


def payload(number, text):
    record(number)
    flush()


def hold(number):
    record(number)
    flush()
    work.time.sleep(work.HOLD)


def enqueue(task, args):
    queue.enqueue_call(f"on_rq.{task}", args)


def enqueue_unique(task, args):
    with suppress(DuplicateJobError):
        queue.enqueue_call(f"on_rq.{task}", args, job_id=f"{task}-{args[0]}", unique=True)


def enqueue_many(task, calls):
    queue.enqueue_many([Queue.prepare_data(f"on_rq.{task}", args) for args in calls])
