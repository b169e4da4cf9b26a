"""Functions on daemon threads of their own: those wait for nobody else's, and keep no process from its end."""

import asyncio
import errno
import threading
from collections.abc import Callable
from concurrent.futures import Future


def on_own_thread(function: Callable[[], None], name: str) -> "asyncio.Future[None]":
    """Call a function on a new thread; raise OSError when there is none to be had."""
    done: Future[None] = Future()
    done.set_running_or_notify_cancel()  # who no longer waits does not hinder it

    def call() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - a border: whoever waits gets it
            done.set_exception(error)
        else:
            done.set_result(None)

    try:
        threading.Thread(target=call, name=name, daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from error
    return asyncio.wrap_future(done)
