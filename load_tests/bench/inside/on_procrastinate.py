"""Tasks in Procrastinate."""

import os
from contextlib import suppress

import work
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_POSTGRES_DSN"]))

TASKS = {
    "noop": app.task(work.noop, name="noop"),
    "noop_sync": app.task(work.noop_sync, name="noop_sync"),
    "sleep": app.task(work.sleep, name="sleep"),
    "payload": app.task(work.payload, name="payload"),
    "hold": app.task(work.hold, name="hold"),
}
NAMES = "number", "text"


async def aprepare():
    await app.open_async()
    await app.schema_manager.apply_schema_async()


async def aenqueue(task, args):
    await TASKS[task].defer_async(**dict(zip(NAMES, args, strict=False)))


async def aenqueue_unique(task, args):
    with suppress(AlreadyEnqueued):
        await TASKS[task].configure(queueing_lock=f"{task}-{args[0]}").defer_async(number=args[0])


async def aenqueue_many(task, calls):
    await TASKS[task].batch_defer_async(*(dict(zip(NAMES, args, strict=False)) for args in calls))


async def aclose():
    await app.close_async()
