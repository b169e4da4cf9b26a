"""How processes are started: by a fork server that has imported what they share, or by spawning."""

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Protocol

from vtasks_supervisor import fork_server, preload
from vtasks_supervisor.threads import on_own_thread

logger = logging.getLogger(__name__)

type LoopFactory = Callable[[], asyncio.AbstractEventLoop]

PRELOAD_LAST = "vtasks_supervisor.preload_now"
"""Not imported here: it acts when it is imported."""
LAUNCH_TIMEOUT = 60.0
"""Seconds that the fork server may take for its imports and the first fork."""
SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS, errno.ENOSPC}
"""What a fork server that has worked is not to blame for."""


class Startable(Protocol):
    """What is launched."""

    def start(self) -> None:
        """Start; blocks until there is a process."""
        ...

    def kill(self) -> None:
        """End the process."""
        ...


class Launcher:
    """Start processes by a fork server that has imported ``modules`` where that is safe, else by spawning.

    One is enough for a process: multiprocessing knows one fork server. ``loop_factory`` makes the children's loops.
    """

    def __init__(
        self, modules: Sequence[str] = (), *, method: str | None = None, loop_factory: LoopFactory | None = None
    ) -> None:
        self.method = method or ("forkserver" if sys.platform == "linux" else "spawn")
        self.loop_factory = loop_factory
        self._modules = modules
        self._proven = False
        self._lock = threading.Lock()
        self._turn = asyncio.Lock()

    def fall_back(self, reason: str) -> None:
        """Spawn from now on."""
        if self.method != "spawn":
            logger.warning("Actors are spawned, which takes more time and memory; forking is not safe: %s", reason)
            self.method = "spawn"

    def copy_this_process(self) -> None:
        """Make the fork server a copy of this process, where that is safe: it starts at once, and shares its memory.

        To be called before there is an event loop or a thread.
        """
        self._prepare(lambda: fork_server.copy_this_process(self._modules), {})

    def warm_up(self) -> None:
        """Let the fork server begin to import; return before it is done."""
        self._prepare(forkserver.ensure_running, self._orders())

    def _prepare(self, begin: Callable[[], object], environment: dict[str, str]) -> None:
        """Let a fork server begin, if there shall be one; without it there is spawning."""
        if self.method != "forkserver":
            return
        try:
            with self._lock, self._shielded(environment):
                begin()
        except OSError as error:
            self.fall_back(f"there can be no fork server: {type(error).__name__}: {error}")

    async def launch[P: Startable](self, make: Callable[[str], P]) -> P:
        """Start what ``make`` returns for a start method of multiprocessing, one at a time.

        Raise OSError, EOFError or TimeoutError when the system does not let us.
        """
        async with self._turn:
            process = make(self.method)
            starting = on_own_thread(lambda: self._start(process), "vtasks-launch")
            try:
                await asyncio.wait({starting}, timeout=LAUNCH_TIMEOUT)
            finally:
                if not starting.done():
                    self._kill_late(starting, process)
            if not starting.done():
                error = TimeoutError(f"no process within {LAUNCH_TIMEOUT:g} s")
                self._end_silence(error)
                raise error
            starting.result()
            return process

    @staticmethod
    def _kill_late(starting: "asyncio.Future[None]", process: Startable) -> None:
        starting.add_done_callback(lambda late: None if late.exception() else process.kill())

    def _start(self, process: Startable) -> None:
        with self._lock, self._shielded(self._orders()):
            try:
                process.start()
            except (OSError, EOFError) as error:
                self._blame(error)
                raise
            self._proven = True

    def _blame(self, error: Exception) -> None:
        """Draw the conclusions from a failed start: give a fork server that has worked up for another one, once."""
        if not self._proven:
            self._give_up(error)
            fork_server.forget()
        elif self.method == "forkserver" and getattr(error, "errno", None) not in SCARCE:
            logger.warning("The fork server cannot be reached any more; another one is started: %r", error)
            fork_server.forget()
            self._proven = False

    def _end_silence(self, error: TimeoutError) -> None:
        """Kill a fork server that does not answer: then the start that waits for it fails and draws the conclusions."""
        if self.method == "forkserver":
            if not self._proven:
                self._give_up(error)
            fork_server.kill()

    def _give_up(self, error: Exception) -> None:
        self.fall_back(f"the fork server does not work: {type(error).__name__}: {error}")

    @contextlib.contextmanager
    def _shielded(self, environment: dict[str, str]) -> Iterator[None]:
        """Block signals: children inherit the mask, and take signals once they have handlers for them."""
        resource_tracker.ensure_running()  # its first launch would unblock them
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, preload.GUARDED)
        try:
            with _environment(environment):
                yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _orders(self) -> dict[str, str]:
        """Return the environment in which a fork server starts; it may start anew with any child."""
        if self.method != "forkserver":
            return {}
        known = forkserver._forkserver._preload_modules  # type: ignore[attr-defined]  # noqa: SLF001 - has no getter
        if preload.__name__ not in known:
            # Without __main__, which would run the project's manage.py in the fork server.
            others = [name for name in known if name != "__main__"]
            forkserver.set_forkserver_preload([preload.__name__, *others, PRELOAD_LAST])
        orders = preload.Orders(modules=list(self._modules), pythonpath=os.environ.get("PYTHONPATH"))
        # Some versions of Python forget sys.path when they preload, and say nothing.
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        return {preload.VARIABLE: json.dumps(orders), "PYTHONPATH": path}


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
