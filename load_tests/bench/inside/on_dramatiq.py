"""Tasks in Dramatiq."""

import os

import dramatiq
import work
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO

broker = RedisBroker(url=os.environ["BENCH_REDIS_URL"])
broker.add_middleware(AsyncIO())
dramatiq.set_broker(broker)

ACTORS = {
    "noop": dramatiq.actor(work.noop, actor_name="noop"),
    "noop_sync": dramatiq.actor(work.noop_sync, actor_name="noop_sync"),
    "sleep": dramatiq.actor(work.sleep, actor_name="sleep"),
    "payload": dramatiq.actor(work.payload, actor_name="payload"),
    "hold": dramatiq.actor(work.hold, actor_name="hold"),
}


def enqueue(task, args):
    ACTORS[task].send(*args)
