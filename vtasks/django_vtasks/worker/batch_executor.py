"""Batch → Outcomes: calls each function once with its members of a batch, and reports each member."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from django_vtasks import batches, results
from django_vtasks.batches import Fates
from django_vtasks.brokers.base import Claim, TaskFailure
from django_vtasks.observers import Run, harmless, while_handling
from django_vtasks.results import AnyTask
from django_vtasks.worker.executor import NO_THREAD, End, Executor, is_async, outcome_of
from django_vtasks.worker.outcome import Outcome, failure_of

type _Ended = tuple[Run, BaseException | None]
"""A run that is over, and its error."""

NO_CONTEXT = TaskFailure(
    "django_vtasks.errors.InvalidTask",
    "A task of a batch queue is called once for many members: takes_context has no meaning there.",
)


class BatchExecutor(Executor):
    """Run the claims of batch queues."""

    def start(self, claim: Claim) -> None:
        """Start a batch of one."""
        self.start_batch([claim])

    def start_batch(self, claims: Iterable[Claim]) -> None:
        """Start a batch; its functions run beside each other."""
        groups: dict[Callable[..., object], tuple[AnyTask, list[Claim]]] = {}
        by_path: dict[str, list[Claim]] = {}
        for claim in claims:
            members = by_path.get(claim.envelope.task)
            if members is None or claim.problem is not None:
                task = self._find(claim)
                if task is None:
                    continue
                if task.takes_context:
                    self._reject(claim, NO_CONTEXT)
                    continue
                _, members = groups.setdefault(task.func, (task, []))
                by_path[claim.envelope.task] = members
            members.append(claim)
        for task, members in groups.values():
            if is_async(task.func):
                self._run_here(self._run_group_async(_runs(task, members)))
            else:
                self._start_group_sync(task, members)

    # Sync ----------------------------------------------------------------------------------------------------

    def _start_group_sync(self, task: AnyTask, members: Sequence[Claim]) -> None:
        try:
            self._threads.submit(lambda: self._run_group_sync(_runs(task, members)))
        except RuntimeError:
            for claim in members:
                self._ended(claim, NO_THREAD, None)

    def _run_group_sync(self, runs: Sequence[Run]) -> Sequence[End]:
        begun = time.monotonic()
        value = None  # for a hook that swallows what the function raises
        if self._observer.tells_of_start():
            self._report_starts_here(runs)
        try:
            with self._hooked(runs[0]):
                value = runs[0].task.func(_members(runs))
            fates = batches.fates_of_return(value, _ids(runs))
        except BaseException as error:  # noqa: BLE001 - the border to user code: SystemExit fails a batch, no more
            fates = batches.fates_of_error(error, _ids(runs))
        self._report_ends_here(self._told_of(runs, fates))
        seconds = time.monotonic() - begun
        return [(run.claim, outcome_of(run), seconds) for run in runs]

    # Async ---------------------------------------------------------------------------------------------------

    async def _run_group_async(self, runs: Sequence[Run]) -> None:
        begun = time.monotonic()
        with self._orm.lane():
            not_its_fault = await self._group_stopped(runs)
        seconds = time.monotonic() - begun
        for run in runs:
            if not_its_fault is None:
                self._ended(run.claim, outcome_of(run), seconds)
            else:
                self._ended(run.claim, not_its_fault, None)

    async def _group_stopped(self, runs: Sequence[Run]) -> Outcome | None:
        """Run a group; return what becomes of it when it has not come to its own end."""
        try:
            await self._report_starts(runs)
            value = await self._call_async(runs[0], [_members(runs)], {})
            fates = batches.fates_of_return(value, _ids(runs))
        except BaseException as error:  # noqa: BLE001 - the border to user code
            if (not_its_fault := self._not_a_failure(error)) is not None:
                return not_its_fault
            fates = batches.fates_of_error(error, _ids(runs))
        await self._report_ends(self._told_of(runs, fates))
        return None

    def _told_of(self, runs: Sequence[Run], fates: Fates) -> list[_Ended]:
        """Return the ends of which somebody is told, noted in their runs."""
        if self._observer.tells_of_success():
            return _ended(runs, fates)
        return [each for each in _ended(runs, fates) if each[1] is not None] if fates else []

    async def _report_starts(self, runs: Sequence[Run]) -> None:
        if not self._observer.tells_of_start():
            return
        if self._observer.start_needs_loop():
            with harmless(runs[0], but=asyncio.CancelledError):
                await self._observer.astarted(runs)
        else:
            self._report_starts_here(runs)

    def _report_starts_here(self, runs: Iterable[Run]) -> None:
        for run in runs:
            with harmless(run):
                self._observer.started(run)

    async def _report_ends(self, ends: Sequence[_Ended]) -> None:
        if ends and self._observer.finish_needs_loop():
            with harmless(ends[0][0]):
                await self._observer.afinished([(run, None, error) for run, error in ends])
        else:
            self._report_ends_here(ends)

    def _report_ends_here(self, ends: Iterable[_Ended]) -> None:
        for run, error in ends:
            while_handling(error, partial(self._report_end_here, run, None))


def _runs(task: AnyTask, members: Iterable[Claim]) -> list[Run]:
    now = time.time()
    return [Run(task, claim, now) for claim in members]


def _ids(runs: Iterable[Run]) -> list[str]:
    return [run.claim.envelope.id for run in runs]


def _members(runs: Iterable[Run]) -> list[dict[str, Any]]:
    moment = results.moments()
    return [
        batches.member(each.id, each.queue, each.task, each.args, each.kwargs, moment(each.enqueued_at), each.attempt)
        for each in [run.claim.envelope for run in runs]
    ]


def _ended(runs: Sequence[Run], fates: Fates) -> list[_Ended]:
    """Note the end of each run, and return it with its error; one that many share is put into words once."""
    now = time.time()
    failures: dict[int, TaskFailure] = {}
    ends = []
    for run in runs:
        run.finished_at = now
        error = fates.get(run.claim.envelope.id)
        if error is not None:
            if id(error) not in failures:
                failures[id(error)] = failure_of(error)
            run.failure = failures[id(error)]
        ends.append((run, error))
    return ends
