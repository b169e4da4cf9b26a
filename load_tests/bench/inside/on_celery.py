"""Tasks in Celery."""

import os

import work
from celery import Celery

app = Celery("on_celery", broker=os.environ["BENCH_REDIS_URL"])
app.conf.update(task_ignore_result=True, task_default_queue="default", broker_connection_retry_on_startup=True)

noop_sync = app.task(work.noop_sync, name="noop_sync")
sleep = app.task(work.sleep_sync, name="sleep")
payload = app.task(work.payload_sync, name="payload")
hold = app.task(work.hold_sync, name="hold")


def enqueue(task, args):
    app.tasks[task].apply_async(args)
