"""Threads with a database connection each: one per running ``def`` task, one per ``async def`` task that needs it."""

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from asgiref.sync import SyncToAsync
from django.db import connections, reset_queries
from django.db.backends.base.base import BaseDatabaseWrapper

from django_vtasks.worker.hunger import Hunger

logger = logging.getLogger(__name__)

FIRST_THREADS = 4
LOOK_EVERY = 0.003
"""Seconds between two looks at whether the threads are blocked."""
BUSY, BUSY_LOOK_EVERY = 0.3, 0.03
"""Of a core, and seconds: what this process takes, or waits for, when its threads may wait for each other, or for a
core, rather than for something else, which a longer look tells apart."""
LATE_LOOKS = 10
"""Longer looks in a row that show nothing because this process itself did not run meanwhile, or so it seems."""


class ThreadLanes[T]:
    """Run functions on at most ``limit`` threads, and hand their results to the loop in bulk.

    Few runnable threads are much faster than many, so that the pool grows only while its threads are blocked.
    ``deliver`` is called on the loop with each result; a function must not raise.
    """

    def __init__(self, limit: int, deliver: Callable[[T], None]) -> None:
        self._limit = limit
        self._deliver = deliver
        self._jobs: SimpleQueue[Callable[[], T] | None] = SimpleQueue()
        self._done: deque[T] = deque()
        self._wake_lock = threading.Lock()
        self._woken = False
        self._threads = 0
        self._outstanding = 0
        self._finished = 0
        self._finished_before = 0
        self._looked_at = 0.0
        self._cpu_before = 0.0
        self._hunger = Hunger()
        self._hunger_before = 0.0
        self._look_takes = LOOK_EVERY
        self._late_looks = 0
        self._finished_when_late = 0
        self._looking: asyncio.TimerHandle | None = None

    def submit(self, function: Callable[[], T]) -> None:
        """Run a function as soon as a thread is free; raise RuntimeError when no thread can be started."""
        if self._threads < min(FIRST_THREADS, self._limit) and self._outstanding >= self._threads:
            self._grow(1)
        self._outstanding += 1
        self._jobs.put(function)
        if self._looking is None and self._threads < self._limit:
            self._look_later()

    def close(self) -> None:
        """Let the threads end after what they run."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0
        self._hunger.close()

    def _look_later(self, seconds: float = LOOK_EVERY) -> None:
        self._finished_before = self._finished
        self._looked_at = time.monotonic()
        self._cpu_before = time.process_time()
        self._hunger_before = self._hunger.seconds()
        self._look_takes = seconds
        self._looking = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """Grow when jobs wait although the threads end less than one each in the usual time between two looks."""
        self._looking = None
        waiting = self._outstanding - self._threads
        if waiting <= 0 or self._threads >= self._limit:
            return
        seconds = time.monotonic() - self._looked_at
        hunger = max(0.0, self._hunger.seconds() - self._hunger_before)
        could_run = seconds - hunger
        is_late = seconds > 2 * self._look_takes or could_run <= 0
        is_busy = time.process_time() - self._cpu_before + hunger > BUSY * seconds
        if self._look_takes < BUSY_LOOK_EVERY and (is_late or is_busy):
            self._look_later(BUSY_LOOK_EVERY)
            return
        if is_late and self._late_looks < LATE_LOOKS:
            if not self._late_looks:
                self._finished_when_late = self._finished_before
            self._late_looks += 1
            self._look_later(BUSY_LOOK_EVERY)
            return
        # Threads that compute for long wait for a core as those do that compute briefly; others shall run beside them.
        is_stuck = is_late and self._finished == self._finished_when_late
        self._late_looks = 0
        if is_stuck or self._finished - self._finished_before < self._threads * could_run / LOOK_EVERY:
            try:
                self._grow(min(waiting, self._limit - self._threads))
            except RuntimeError:
                logger.warning("Cannot start more than %d threads; sync tasks wait for them", self._threads)
        self._look_later()

    def _grow(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            try:
                thread = threading.Thread(target=self._serve, args=(loop,), name="vtasks-lane", daemon=True)
                thread.start()
            except RuntimeError:
                if not self._threads:
                    raise
                return
            if not self._threads:
                self._hunger.watch(threading.get_native_id())  # the loop's
            if self._threads < FIRST_THREADS:
                self._hunger.watch(thread.native_id)
            self._threads += 1

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        while (function := self._jobs.get()) is not None:
            # An empty context: what one task sets, such as the language, the next must not see.
            self._done.append(contextvars.Context().run(_with_connections, function))
            with self._wake_lock:
                must_wake, self._woken = not self._woken, True
            if must_wake:
                _call_soon(loop, self._collect)
        connections.close_all()

    def _collect(self) -> None:
        with self._wake_lock:
            self._woken = False
        while self._done:
            self._outstanding -= 1
            self._finished += 1
            self._deliver(self._done.popleft())


def _with_connections[T](function: Callable[[], T]) -> T:
    reset_queries()
    try:
        return function()
    finally:
        _tidy_connections()


def _tidy_connections() -> None:
    """Leave to the next task of this thread connections as good as new.

    A lane may idle for hours between two tasks; whatever CONN_HEALTH_CHECKS says, a task that is not tried again must
    not fail of a connection that a restart of the server has broken meanwhile.
    """
    for connection in connections.all(initialized_only=True):
        try:
            _tidy(connection)
        except Exception:  # a connection that cannot be tidied must not cost the thread, nor the task's outcome
            logger.exception("Cannot tidy the connection to database %s", connection.alias)
            _discard(connection)


def _tidy(connection: BaseDatabaseWrapper) -> None:
    if connection.in_atomic_block or not _is_rolled_back(connection):
        _discard(connection)
    else:
        connection.close_if_unusable_or_obsolete()
        connection.health_check_enabled = True  # type: ignore[attr-defined]


def _is_rolled_back(connection: BaseDatabaseWrapper) -> bool:
    """End what a task has begun behind Django's back; tell whether the connection was fit for it."""
    try:
        if connection.connection is not None:
            connection.connection.rollback()
    except Exception:  # noqa: BLE001 - whatever the driver raises about a connection that is no more
        return False
    return True


def _discard(connection: BaseDatabaseWrapper) -> None:
    """Give up a connection in a state that Django's own close() refuses to leave."""
    logger.warning("A task left the connection to database %s unusable; it is closed", connection.alias)
    del connections[connection.alias]
    with contextlib.suppress(Exception):
        # As close() does when it agrees: a pool must have its connection back.
        connection._close()  # type: ignore[attr-defined]  # noqa: SLF001


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        logger.debug("A thread ended after its loop had been closed")


class NoThread(RuntimeError):
    """The system has no thread for a task of the loop that touches the ORM."""


class OrmLanes:
    """A thread for each running async task that touches the ORM, so that none shares another's connection."""

    def __init__(self) -> None:
        self._idle: list[_Lane] = []
        self._all: list[_Lane] = []
        self._taking = threading.Lock()  # a task may have a loop of its own on another thread

    def lane(self) -> "_Visit":
        """Give the running task a thread of its own for thread-sensitive calls, with the first of them."""
        return _Visit(self)

    def take_for(self, visit: "_Visit") -> None:
        """Give a lane to a task that needs one, unless it has one."""
        with self._taking:
            if visit.lane is None:
                visit.lane = self._idle.pop() if self._idle else self._new()
                SyncToAsync.context_to_thread_executor[visit] = visit.lane  # type: ignore[index] # see _Visit

    def back(self, lane: "_Lane") -> None:
        """Take back a lane from the task that has ended."""
        if lane.is_busy or lane.has_no_thread:
            # A call that the task no longer waits for; the next task shall not wait for it either.
            self._all.remove(lane)
            lane.close()
            return
        lane.tidy()
        self._idle.append(lane)

    def close(self) -> None:
        """Close the lanes' connections and let their threads end."""
        for lane in self._all:
            lane.close()
        self._all.clear()

    def _new(self) -> "_Lane":
        self._all.append(_Lane())
        return self._all[-1]


class _Visit:
    """What asgiref takes for a ThreadSensitiveContext: one task's stay in a lane, which begins when it is needed.

    Only few tasks touch the ORM, and asgiref's own class takes a third of the time of one that does nothing.
    """

    __slots__ = ("__weakref__", "_has_ended", "_lanes", "_token", "lane")

    _exited = False
    """Read by asgiref, which would tell less of the error than __bool__ does."""

    def __init__(self, lanes: OrmLanes) -> None:
        self._lanes = lanes
        self.lane: _Lane | None = None
        self._has_ended = False

    def __enter__(self) -> None:
        self._token = SyncToAsync.thread_sensitive_context.set(self)  # type: ignore[arg-type] # see above

    def __exit__(self, *error: object) -> None:
        SyncToAsync.thread_sensitive_context.reset(self._token)
        self._has_ended = True
        if self.lane is not None:
            del SyncToAsync.context_to_thread_executor[self]  # type: ignore[arg-type]
            self._lanes.back(self.lane)

    def __bool__(self) -> bool:
        """Be there: so asks asgiref on the loop, for each thread-sensitive call, before it looks for the thread."""
        if self._has_ended:
            raise RuntimeError(
                "The task has ended, and its thread with it: what it has left behind cannot use the ORM."
            )
        if self.lane is None:
            self._lanes.take_for(self)
        return True


class _Lane(ThreadPoolExecutor):
    def __init__(self) -> None:
        super().__init__(max_workers=1, thread_name_prefix="vtasks-orm")
        self._used = False
        self._last: Future[Any] | None = None
        self.has_no_thread = False

    @property
    def is_busy(self) -> bool:
        """Tell whether the thread still runs a call."""
        return self._last is not None and not self._last.done()

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        self._used = True
        try:
            future = super().submit(fn, *args, **kwargs)
        except RuntimeError as error:
            if self._threads:
                raise
            self.has_no_thread = True
            self.shutdown(wait=False, cancel_futures=True)  # it keeps what it could not begin
            raise NoThread(str(error)) from error
        self._last = future
        return future

    def tidy(self) -> None:
        if self._used:
            super().submit(_tidy_connections)
            self._used = False

    def close(self) -> None:
        """Close the connections and let the thread end, after what it runs; again does nothing."""
        with contextlib.suppress(RuntimeError):
            if self._threads:
                super().submit(connections.close_all)
        self.shutdown(wait=False)
