"""Claim → Outcome: finds the task, runs it in its lane, and reports it; touches no broker, never raises."""

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import Any

from django.tasks import TaskContext

from django_vtasks.brokers.base import Claim, TaskFailure
from django_vtasks.errors import TaskUnavailable
from django_vtasks.observers import Observer, Run, harmless
from django_vtasks.publishing import plain
from django_vtasks.results import AnyTask
from django_vtasks.worker.lanes import NoThread, OrmLanes, ThreadLanes
from django_vtasks.worker.outcome import CANCELLED, SUCCEEDED, Failed, Outcome, Postponed, failure_of
from django_vtasks.worker.registry import Registry

logger = logging.getLogger(__name__)

type End = tuple[Claim, Outcome, float | None]
type Ended = Callable[[Claim, Outcome, float | None], None]
type ContextHook = Callable[[TaskContext[..., Any]], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]]

NO_THREAD = Postponed(1.0)
UNAVAILABLE_DELAY = 30.0
"""Seconds after which a worker looks again at a task whose module cannot be imported."""


class Executor:
    """Run claims: ``def`` tasks on threads, ``async def`` tasks on the loop.

    ``ended(claim, outcome, seconds)`` is called once on the loop for each claim that was started.
    ``hook`` makes a context manager around each run from Django's TaskContext. ``is_ending`` tells whether the loop's
    end has cancelled everything: then no task is to blame for being cancelled.
    """

    def __init__(
        self,
        registry: Registry,
        observer: Observer,
        concurrency: int,
        ended: Ended,
        *,
        hook: ContextHook | None = None,
        is_ending: Callable[[], bool] = lambda: False,
    ) -> None:
        self._registry = registry
        self._observer = observer
        self._ended = ended
        self._hook = hook
        self._is_ending = is_ending
        self._threads = ThreadLanes[Sequence[End]](concurrency, self._deliver)
        self._orm = OrmLanes()
        self._running: set[asyncio.Task[None]] = set()
        self._cancelling = False

    def start(self, claim: Claim) -> None:
        """Start a claim; an ``async def`` task that does not wait has ended when this returns."""
        task = self._find(claim)
        if task is None:
            return
        if is_async(task.func):
            self._start_async(task, claim)
        else:
            self._start_sync(task, claim)

    def cancel(self) -> None:
        """Cancel what runs on the loop; threads cannot be cancelled."""
        self._cancelling = True
        for running in list(self._running):
            running.cancel()

    def close(self) -> None:
        """Let the lanes' threads end."""
        self._threads.close()
        self._orm.close()

    def _find(self, claim: Claim) -> AnyTask | None:
        """Return the task of a claim; end the claim when there is none."""
        if claim.problem is not None:
            self._reject(claim, TaskFailure("django_vtasks.errors.PayloadError", claim.problem))
            return None
        try:
            return self._registry.find(claim.envelope.task)
        except TaskUnavailable:
            # A deployment may be half done; the registry has logged why.
            self._ended(claim, Postponed(UNAVAILABLE_DELAY), None)
        except Exception as error:  # noqa: BLE001 - whatever a module does on attribute access
            self._reject(claim, failure_of(error))
        return None

    def _deliver(self, ends: Sequence[End]) -> None:
        for end in ends:
            self._ended(*end)

    def _reject(self, claim: Claim, failure: TaskFailure) -> None:
        self._observer.rejected(claim, failure)
        self._ended(claim, Failed(failure), None)

    # Sync ----------------------------------------------------------------------------------------------------

    def _start_sync(self, task: AnyTask, claim: Claim) -> None:
        try:
            self._threads.submit(lambda: [self._run_sync(Run(task, claim, time.time()))])
        except RuntimeError:
            self._ended(claim, NO_THREAD, None)

    def _run_sync(self, run: Run) -> End:
        begun = time.monotonic()
        value = None
        try:
            if self._observer.tells_of_start():
                with harmless(run):
                    self._observer.started(run)
            with self._hooked(run):
                value = plain(run.task.func(*self._arguments(run), **run.claim.envelope.kwargs))
        except BaseException as error:  # noqa: BLE001 - the border to user code: SystemExit fails a task, no more
            run.finished_at = time.time()
            run.failure = failure_of(error)
            self._report_end_here(run, None)
        else:
            run.finished_at = time.time()
            self._report_end_here(run, value)
        return run.claim, outcome_of(run), time.monotonic() - begun

    def _report_end_here(self, run: Run, value: Any) -> None:
        if self._observer.tells_of_end(run):
            with harmless(run):
                self._observer.finished(run, value)

    # Async ---------------------------------------------------------------------------------------------------

    def _start_async(self, task: AnyTask, claim: Claim) -> None:
        self._run_here(self._run_async(Run(task, claim, time.time())))

    def _run_here(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Begin a coroutine on the loop."""
        # Eager: what never waits has ended here, without a round through the loop. An empty context: this may be called
        # in that of the task which has just ended.
        running = asyncio.Task(
            coroutine, loop=asyncio.get_running_loop(), context=contextvars.Context(), eager_start=True
        )
        if not running.done():
            self._running.add(running)
            running.add_done_callback(self._running.discard)

    async def _run_async(self, run: Run) -> None:
        begun = time.monotonic()
        # Receivers run in the task's lane too: with its connection, and one task's beside another's.
        with self._orm.lane():
            outcome = await self._outcome_of_async(run)
        has_ended = outcome is not CANCELLED and outcome is not NO_THREAD
        self._ended(run.claim, outcome, time.monotonic() - begun if has_ended else None)

    async def _outcome_of_async(self, run: Run) -> Outcome:
        observer = self._observer
        try:
            if observer.tells_of_start():
                with harmless(run, but=asyncio.CancelledError):
                    if observer.start_needs_loop():
                        await observer.astarted([run])
                    else:
                        observer.started(run)
            value = plain(await self._call_async(run, self._arguments(run), run.claim.envelope.kwargs))
        except BaseException as error:  # noqa: BLE001 - the border to user code
            if (not_its_fault := self._not_a_failure(error)) is not None:
                return not_its_fault
            run.finished_at = time.time()
            run.failure = failure_of(error)
            await self._report_end(run, None, error)
        else:
            run.finished_at = time.time()
            if observer.tells_of_end(run):
                await self._report_end(run, value)
        return outcome_of(run)

    def _not_a_failure(self, error: BaseException) -> Outcome | None:
        """Return what becomes of a task whose error is none of its own."""
        if isinstance(error, asyncio.CancelledError) and (self._cancelling or self._is_ending()):
            return CANCELLED
        return NO_THREAD if isinstance(error, NoThread) else None

    async def _report_end(self, run: Run, value: Any, error: BaseException | None = None) -> None:
        with harmless(run):
            if self._observer.finish_needs_loop():
                await self._observer.afinished([(run, value, error)])
            else:
                self._observer.finished(run, value)

    def _call_async(self, run: Run, arguments: Sequence[Any], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        if self._hook is None:
            call: Coroutine[Any, Any, Any] = run.task.func(*arguments, **kwargs)
            return call
        return self._call_hooked(self._hook(TaskContext(task_result=run.result)), run, arguments, kwargs)

    @staticmethod
    async def _call_hooked(hooked: Any, run: Run, arguments: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if isinstance(hooked, AbstractAsyncContextManager):
            async with hooked:
                return await run.task.func(*arguments, **kwargs)
        with hooked:
            return await run.task.func(*arguments, **kwargs)

    # Both ----------------------------------------------------------------------------------------------------

    def _arguments(self, run: Run) -> list[Any]:
        args = run.claim.envelope.args
        return [TaskContext(task_result=run.result), *args] if run.task.takes_context else args

    def _hooked(self, run: Run) -> AbstractContextManager[Any]:
        if self._hook is None:
            return _NOTHING
        hooked = self._hook(TaskContext(task_result=run.result))
        if not isinstance(hooked, AbstractContextManager):
            raise TypeError("VTASKS_TASK_CONTEXT must return a synchronous context manager for a def task.")
        return hooked


_NOTHING = ExitStack()


# Asking a function takes longer than running a task that does nothing.
is_async = lru_cache(maxsize=1024)(iscoroutinefunction)


def outcome_of(run: Run) -> Outcome:
    """Return the outcome of a run that has ended."""
    return SUCCEEDED if run.failure is None else Failed(run.failure)
