"""Blocking calls on other threads, which close the database connections that they opened."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from django.db import connections


def closing[**P, T](function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function, then close this thread's database connections."""
    try:
        return function(*args, **kwargs)
    finally:
        connections.close_all()


async def aside[**P, T](function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a blocking function beside the event loop."""
    return await asyncio.to_thread(lambda: closing(function, *args, **kwargs))


def elsewhere[**P, T](function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function on a thread, and so on a connection, of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: closing(function, *args, **kwargs)).result(60)


def at_once[T](function: Callable[[int], T], times: int) -> list[T]:
    """Call a function with 0, 1, 2, … on as many threads, which all start together."""
    start = Barrier(times)

    def call(number: int) -> T:
        start.wait(60)
        return function(number)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(lambda number: closing(call, number), range(times)))
