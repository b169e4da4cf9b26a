"""Enqueue for the harness: reads commands from standard input, a line of JSON each, and answers with one.

BENCH_MODULE names the contender's module. It has ``enqueue(task, args)`` or ``aenqueue(task, args)``, and where it can
``enqueue_many(task, [args])``, ``enqueue_unique(task, args)`` and ``prepare()``, or their twins; with
``enqueue_of(task)`` or its twin, what a user calls is called without a step between. ``give_back(queue)`` puts what
ended workers have left into their queue again, where these do not do that themselves.
"""

import asyncio
import importlib
import json
import os
import random
import sys
import time
from itertools import batched, count

BULK = 1000
COROUTINES = 50
PAYLOAD = 65_536


class Producer:
    def __init__(self, module, seed):
        self.module = module
        self.runner = asyncio.Runner()
        self.random = random.Random(seed)
        self.texts = None

    def arguments(self, task, number):
        if task != "payload":
            return (number,)
        if self.texts is None:
            words = ["".join(self.random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=7)) for _ in range(2000)]
            self.texts = [" ".join(self.random.choices(words, k=PAYLOAD // 8)) for _ in range(8)]
        return (number, self.texts[number % len(self.texts)])

    def run(self, function, *args):
        """Call a function or run a coroutine function, of the module."""
        if asyncio.iscoroutinefunction(function):
            return self.runner.run(function(*args))
        return function(*args)

    def has(self, *names):
        return next((getattr(self.module, name) for name in names if hasattr(self.module, name)), None)

    def call_of(self, kind, task):
        """Return what enqueues a task with the arguments that it is called with."""
        if direct := self.has(f"{kind}_of"):
            return direct(task)
        enqueue = getattr(self.module, kind)
        return lambda *args: enqueue(task, args)

    def prepare(self):
        if function := self.has("prepare", "aprepare"):
            self.run(function)
        return {}

    def give_back(self, queue):
        if function := self.has("give_back"):
            self.run(function, queue)
        return {}

    def fill(self, task, first, number, seconds=3600.0):
        """Enqueue, as quickly as is possible, until enough or the end of the time."""
        began = time.perf_counter()
        done = 0
        many, one = self.has("enqueue_many", "aenqueue_many"), self.has("enqueue")
        for numbers in batched(range(first, first + number), BULK):
            calls = [self.arguments(task, number) for number in numbers]
            if many:
                self.run(many, task, calls)
            elif one:
                for args in calls:
                    one(task, args)
            else:
                self.runner.run(self._together(self.module.aenqueue, task, iter(calls)))
            done += len(numbers)
            if time.perf_counter() - began > seconds:
                break
        return {"count": done, "seconds": time.perf_counter() - began}

    def one(self, task, first, seconds):
        """Enqueue one after the other for a while."""
        return _for(seconds, first, self.call_of("enqueue", task))

    def one_async(self, task, first, seconds):
        """Enqueue one after the other for a while, on a loop."""
        return self.runner.run(self._together_for(task, first, seconds, 1))

    def together(self, task, first, seconds):
        """Enqueue from 50 coroutines for a while."""
        return self.runner.run(self._together_for(task, first, seconds, COROUTINES))

    def bulk(self, task, first, seconds):
        """Enqueue a thousand at a time for a while."""
        many = self.has("enqueue_many", "aenqueue_many")

        def thousand(number):
            self.run(many, task, [(each,) for each in range(number, number + BULK)])

        return _for(seconds, first, thousand, BULK)

    def steady(self, task, first, rate, number):
        """Enqueue at a rate; answer with the time before each call."""
        one, times = self.has("enqueue"), []
        if not one:
            return {"times": self.runner.run(self._steady(task, first, rate, number))}
        began = time.monotonic()
        for tick in range(number):
            time.sleep(max(0.0, began + tick / rate - time.monotonic()))
            times.append(time.monotonic())
            one(task, (first + tick,))
        return {"times": times}

    def storm(self, task, keys, seconds):
        """Enqueue unique tasks with few arguments, from 50 coroutines if it can, for a while; each once at least."""
        unique, deadline = self.has("enqueue_unique", "aenqueue_unique"), time.perf_counter() + seconds
        began, calls = time.perf_counter(), 0
        while calls < keys or time.perf_counter() < deadline:
            if asyncio.iscoroutinefunction(unique):
                self.runner.run(self._together(unique, task, iter([(number,) for number in range(keys)])))
            else:
                for number in range(keys):
                    unique(task, (number,))
            calls += keys
        return {"count": calls, "seconds": time.perf_counter() - began}

    async def _together(self, enqueue, task, calls):
        async def some():
            for args in calls:
                await enqueue(task, args)

        await asyncio.gather(*(some() for _ in range(COROUTINES)))

    async def _together_for(self, task, first, seconds, coroutines):
        enqueue, numbers = self.call_of("aenqueue", task), count(first)
        await enqueue(next(numbers))
        began = time.perf_counter()

        async def some():
            while time.perf_counter() - began < seconds:
                await enqueue(next(numbers))

        await asyncio.gather(*(some() for _ in range(coroutines)))
        return _rate(next(numbers) - first, 1, time.perf_counter() - began)

    async def _steady(self, task, first, rate, number):
        times, began = [], time.monotonic()
        for tick in range(number):
            await asyncio.sleep(max(0.0, began + tick / rate - time.monotonic()))
            times.append(time.monotonic())
            await self.module.aenqueue(task, (first + tick,))
        return times

    def close(self):
        if function := self.has("close", "aclose"):
            self.run(function)
        self.runner.close()


def _for(seconds, first, enqueue, step=1):
    """Enqueue for a while."""
    enqueue(first)
    began, number = time.perf_counter(), first + step
    while (took := time.perf_counter() - began) < seconds:
        enqueue(number)
        number += step
    return _rate(number - first, step, took)


def _rate(enqueued, before, seconds):
    """Return how many there are, and how many a second: without the first call, which connects."""
    return {"count": enqueued, "rate": (enqueued - before) / seconds}


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what contenders print is no answer
    producer = Producer(importlib.import_module(os.environ["BENCH_MODULE"]), int(os.environ["BENCH_SEED"]))
    for line in sys.stdin:
        command = json.loads(line)
        answers.write(json.dumps(getattr(producer, command.pop("do"))(**command)) + "\n")
    producer.close()


if __name__ == "__main__":
    main()
