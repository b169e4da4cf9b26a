"""A producer of its own: ``python -m load_tests.chaos.feeder SEED RATE [QUEUE…]`` enqueues until its input ends."""

import random
import select
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import django
from django.db import close_old_connections

QUICK, LONG = 0.05, 0.3
BULK = 10
SOLE = 5
"""Unique keys that calls compete for."""


class Feeder:
    """Makes calls of every kind, as chance has it, and notes what became of each."""

    def __init__(self, seed: int, queues: list[str]) -> None:
        from load_tests.chaos import tasks

        self._seed = seed
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._queues = queues
        self._tasks: tuple[Any, ...] = (tasks.work, tasks.awork)
        self._pen = tasks.pen
        self._number = 0

    def feed(self) -> int:
        """Make one call, or several at once; return how many."""
        kind = self._chance.random()
        if kind < 1 / BULK:
            return self._bulk()
        task, key, seconds = self._call()
        delay = 0.0
        if kind < 0.15:  # noqa: PLR2004 - one in twenty
            delay = round(self._chance.uniform(0.1, 1.0), 3)
            task = task.using(run_after=timedelta(seconds=delay))
        elif kind < 0.25:  # noqa: PLR2004 - one in ten
            sole = f"sole-{self._chance.randrange(SOLE)}"
            task, key = task.using(unique=True, unique_key=sole), f"{sole}/{key}"
        elif kind < 0.3:  # noqa: PLR2004 - one in twenty
            task = task.using(priority=self._chance.choice([-5, 5, 50]))
        self._noted({key: (task, delay)}, lambda: [task.enqueue(key, seconds)])
        return 1

    def _bulk(self) -> int:
        from django.tasks import task_backends

        calls = [self._call() for _ in range(BULK)]
        backend: Any = task_backends["default"]
        tasks = {key: (task, 0.0) for task, key, _ in calls}
        self._noted(tasks, lambda: backend.enqueue_many([(task, (key, took), {}) for task, key, took in calls]))
        return BULK

    def _call(self) -> tuple[Any, str, float]:
        self._number += 1
        seconds = LONG if self._chance.random() < 1 / 10 else self._chance.uniform(0, QUICK)
        task = self._chance.choice(self._tasks).using(queue_name=self._chance.choice(self._queues))
        return task, f"t{self._seed}-{self._number}", round(seconds, 4)

    def _noted(self, tasks: dict[str, tuple[Any, float]], call: Callable[[], list[Any]]) -> None:
        """Make calls, and note what became of each; of those accepted also the queue, and the seconds until due."""
        for key in tasks:
            self._pen.write("try", key)
        began = time.monotonic()
        try:
            close_old_connections()  # as at the begin of each request
            results = call()
        except Exception as error:  # noqa: BLE001 - which it is, is what we want to know
            took = time.monotonic() - began
            for key in tasks:
                self._pen.write("error", key, note=f"{type(error).__module__}.{type(error).__qualname__} {took:.3f}")
            return
        for (key, (task, delay)), result in zip(tasks.items(), results, strict=True):
            if result:
                self._pen.write("accept", key, result.id, f"{task.queue_name} {delay:g}")
            else:
                self._pen.write("same", key)


def main(seed: int, rate: float, queues: list[str]) -> None:
    """Feed at a rate; what could not be fed in time is left out, so that no storm follows an outage."""
    django.setup()
    feeder, due = Feeder(seed, queues), time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        due = max(due + feeder.feed() / rate, time.monotonic() - 1.0)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:] or ["default"])
