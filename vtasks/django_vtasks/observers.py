"""The one place that turns what happens to tasks into signals, log lines and counts."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.dispatch import Signal
from django.tasks import TaskResultStatus
from django.tasks.base import TaskError
from django.tasks.signals import (
    log_task_enqueued,
    log_task_finished,
    log_task_started,
    task_enqueued,
    task_finished,
    task_started,
)

from django_vtasks import results
from django_vtasks.brokers.base import Ack, Bury, Claim, Reclaimed, Settlement, TaskFailure
from django_vtasks.envelope import Envelope
from django_vtasks.metrics import tally
from django_vtasks.results import AnyResult, AnyTask, Published
from django_vtasks.signals import task_refused, worker_started, worker_stopped

logger = logging.getLogger(__name__)
django_logger = logging.getLogger("django.tasks")

CAUSES = ACTOR_DIED, WORKER_VANISHED = "actor died", "worker vanished"
"""Why tasks are taken back from whoever held them."""


def submissions(task: str, queue: str) -> tally.Count:
    """Return what counts the enqueues of a task in a queue: whoever enqueues one after the other keeps it."""
    return tally.submitted[task, queue]


def submitted(envelopes: Sequence[Envelope], accepted: Sequence[bool]) -> None:
    """Count the calls that have been accepted."""
    submitted_in_all(by_task(envelopes, accepted))


def submitted_in_all(counts: Mapping[tuple[str, str], int]) -> None:
    """Count calls that have been accepted, of each task in each queue so many."""
    for labels, count in counts.items():
        tally.submitted[labels].value += count


def by_task(envelopes: Sequence[Envelope], accepted: Sequence[bool]) -> Counter[tuple[str, str]]:
    """Return how many calls of each task in each queue have been accepted."""
    counts: Counter[tuple[str, str]] = Counter()
    task = queue = ""
    count = 0
    for envelope, is_accepted in zip(envelopes, accepted, strict=True):
        if not is_accepted:
            continue
        if envelope.task is not task or envelope.queue is not queue:  # in bulk the same task comes thousands of times
            if count:
                counts[task, queue] += count
            task, queue, count = envelope.task, envelope.queue, 0
        count += 1
    if count:
        counts[task, queue] += count
    return counts


def settled(settlements: Sequence[Settlement], accepted: Sequence[bool]) -> None:
    """Count the ends of tasks that a store has taken in; not those of claims that were no longer their owner's."""
    task = queue = ""
    runs = None
    for settlement, is_accepted in zip(settlements, accepted, strict=True):
        kind = type(settlement)
        if not is_accepted or (kind is not Ack and kind is not Bury):
            continue
        envelope, seconds = settlement.claim.envelope, settlement.seconds  # type: ignore[union-attr] # one of these two
        if seconds is None:  # there may be any number of names that no worker knows
            tally.processed[tally.UNKNOWN, envelope.queue, tally.FAILURE].value += 1
            continue
        if runs is None or envelope.task != task or envelope.queue != queue:  # which is seldom within a group
            task, queue = envelope.task, envelope.queue
            runs = tally.runs[task, queue]
        if kind is Ack:
            runs.success.value += 1
        else:
            runs.failure.value += 1
        runs.duration.observe(seconds)


def rescued(reclaimed: Reclaimed, cause: str) -> None:
    """Count the tasks that were taken back from owners that died; ``cause`` is one of CAUSES."""
    if reclaimed.returned:
        tally.rescued[(cause,)].value += len(reclaimed.returned)
    if reclaimed.buried:
        tally.given_up[(cause,)].value += len(reclaimed.buried)


def ticked(lateness: float) -> None:
    """Count a slot of the schedule whose task has been enqueued so many seconds after its time."""
    tally.lateness[()].observe(max(0.0, lateness))


def are_told(accepted: Sequence[bool]) -> bool:
    """Tell whether anybody wants to know of calls of which some were accepted: a refusal is told in any case."""
    return (
        False in accepted
        or _someone_listens(task_enqueued, log_task_enqueued)
        or django_logger.isEnabledFor(logging.DEBUG)
    )


def published(sender: type, events: Sequence[Published]) -> None:
    """Tell the enqueuing process what became of its calls."""
    for event in events:
        if event.result is None:
            task_refused.send(sender, **_refusal(event))
        else:
            task_enqueued.send(sender, task_result=event.result)


async def apublished(sender: type, events: Sequence[Published]) -> None:
    """Tell the enqueuing process what became of its calls, from its loop."""
    for event in events:
        if event.result is None:
            await task_refused.asend(sender, **_refusal(event))
        else:
            await task_enqueued.asend(sender, task_result=event.result)


def _refusal(event: Published) -> dict[str, Any]:
    return {"task": event.task, "args": event.envelope.args, "kwargs": event.envelope.kwargs}


def enqueued(sender: type, result: AnyResult) -> None:
    """Tell that a call has been enqueued by a backend without a broker."""
    task_enqueued.send(sender, task_result=result)


def began(sender: type, result: AnyResult) -> None:
    """Tell that a backend without a worker runs a task."""
    task_started.send(sender, task_result=result)


def ended(sender: type, result: AnyResult) -> None:
    """Tell that a backend without a worker has run a task."""
    task_finished.send(sender, task_result=result)


def ended_by(error: BaseException | None, sender: type, result: AnyResult) -> None:
    """Tell that a backend without a worker has run a task, as if the error were being handled, if there is one."""
    while_handling(error, partial(ended, sender, result))


def worker_began(sender: type, node: str, queues: Sequence[str]) -> None:
    """Tell that a worker takes tasks from now on."""
    logger.info("Worker %s takes tasks of %s", node, ", ".join(queues))
    worker_started.send_robust(sender, node=node, queues=list(queues))


def worker_ended(sender: type, node: str, queues: Sequence[str]) -> None:
    """Tell that a worker has ended its work."""
    worker_stopped.send_robust(sender, node=node, queues=list(queues))
    logger.info("Worker %s has stopped", node)


type Receiver = Callable[..., Any]
type End = tuple[Run, Any, BaseException | None]
"""A run, what it returned, and what it raised."""
type Told = tuple[Run, AnyResult, BaseException | None]


class Run(msgspec.Struct, eq=False):
    """One execution of one task, from start to end; times are seconds since the epoch."""

    task: AnyTask
    claim: Claim
    started_at: float
    finished_at: float = 0.0
    failure: TaskFailure | None = None
    _result: AnyResult | None = None

    @property
    def result(self) -> AnyResult:
        """Return Django's view of the run; made only when somebody asks, since few do."""
        if self._result is None:
            self._result = results.build(
                results.as_enqueued(self.task, self.claim.envelope),
                self.claim.envelope,
                self.task.backend,
                status=TaskResultStatus.RUNNING,
                worker=str(self.claim.owner),
                started_at=self.started_at,
            )
        return self._result

    def finished_result(self, value: Any) -> AnyResult:
        """Return the result with the end written into it, the same object that the task's context holds."""
        result = self.result
        set_ = object.__setattr__
        set_(result, "finished_at", results.moment(self.finished_at))
        if self.failure is None:
            set_(result, "status", TaskResultStatus.SUCCESSFUL)
            set_(result, "_return_value", value)
        else:
            set_(result, "status", TaskResultStatus.FAILED)
            result.errors.append(
                TaskError(exception_class_path=self.failure.exception, traceback=self.failure.traceback)
            )
        return result


class Observer:
    """Report runs to the log and to Django's signals.

    An exception of a receiver is logged; what is no Exception, such as SystemExit, comes through on a thread.

    The synchronous methods are called on the thread that runs the task, the others on the loop. finished()
    is called while the task's exception, if any, is being handled.
    """

    def __init__(self, sender: type) -> None:
        self._sender = sender

    def started(self, run: Run) -> None:
        """Report the start of a run."""
        if _someone_listens(task_started, log_task_started):
            task_started.send_robust(self._sender, task_result=run.result)
        elif _django_logs(task_started, log_task_started, logging.INFO):
            log_task_started(self._sender, run.result)

    async def astarted(self, runs: Sequence[Run]) -> None:
        """Report the starts of runs that have a lane in common to the project's receivers; see _asend()."""
        await _asend(task_started, log_task_started, self._sender, [(run, run.result, None) for run in runs])

    def finished(self, run: Run, value: Any) -> None:
        """Report the end of a run, which returned ``value`` unless it failed."""
        _log(run)
        if _someone_listens(task_finished, log_task_finished):
            task_finished.send_robust(self._sender, task_result=run.finished_result(value))
        elif _django_logs(task_finished, log_task_finished, logging.INFO if run.failure is None else logging.ERROR):
            log_task_finished(self._sender, run.finished_result(value))

    async def afinished(self, ends: Sequence[End]) -> None:
        """Report the ends of runs that have a lane in common to the project's receivers; see _asend()."""
        for run, _, _ in ends:
            _log(run)
        told = [(run, run.finished_result(value), error) for run, value, error in ends]
        await _asend(task_finished, log_task_finished, self._sender, told)

    @staticmethod
    def rejected(claim: Claim, failure: TaskFailure) -> None:
        """Report a claim that could not be run at all."""
        envelope = claim.envelope
        logger.warning(
            "Task %s cannot run: %s id=%s queue=%s",
            _escaped(envelope.task) or "?", _escaped(failure.message), _escaped(envelope.id), envelope.queue,
        )  # fmt: skip

    @staticmethod
    def tells_of_start() -> bool:
        """Tell whether anybody is told that a run has started; few are, and to tell nobody takes longer than to ask."""
        return _someone_listens(task_started, log_task_started) or _django_logs(
            task_started, log_task_started, logging.INFO
        )

    @staticmethod
    def tells_of_end(run: Run) -> bool:
        """Tell whether anybody is told that a run has ended."""
        return run.failure is not None or Observer.tells_of_success()

    @staticmethod
    def tells_of_success() -> bool:
        """Tell whether anybody is told of runs that have succeeded."""
        return (
            logger.isEnabledFor(logging.INFO)
            or _someone_listens(task_finished, log_task_finished)
            or _django_logs(task_finished, log_task_finished, logging.INFO)
        )

    @staticmethod
    def start_needs_loop() -> bool:
        """Tell whether the start of an async task must be awaited, because the project has receivers."""
        return _someone_listens(task_started, log_task_started)

    @staticmethod
    def finish_needs_loop() -> bool:
        """Tell whether the end of an async task must be awaited, because the project has receivers."""
        return _someone_listens(task_finished, log_task_finished)


@contextmanager
def harmless(run: Run, *, but: type[BaseException] | tuple[()] = ()) -> Iterator[None]:
    """Log what a receiver raises: not even SystemExit, or being cancelled, changes what became of a run."""
    try:
        yield
    except but:
        raise
    except BaseException:
        logger.exception("A receiver failed on task %s id=%s", run.task.module_path, run.claim.envelope.id)


async def _asend(signal: Signal, djangos_own: Receiver, sender: type, told: Sequence[Told]) -> None:
    """Tell a signal's receivers of runs: one that is awaited on the loop, a plain function on the thread of the lane.

    Signal.asend_robust() would go to that thread for each run, and for what only logs.
    """
    plain, awaited = signal._live_receivers(sender)  # noqa: SLF001
    if plain == [djangos_own]:
        _tell(signal, sender, plain, told)
    elif plain:
        await _tell_in_lane(signal, sender, plain, told)
    for each in told if awaited else ():
        await _beside_each_other(_atell(signal, sender, receiver, *each) for receiver in awaited)


def _tell(signal: Signal, sender: type, receivers: Sequence[Receiver], told: Sequence[Told]) -> None:
    """Call receivers for each run, while its error is being handled."""
    for run, result, error in told:
        for receiver in receivers:
            with harmless(run), _robust(signal, receiver):
                while_handling(error, partial(receiver, signal=signal, sender=sender, task_result=result))


_tell_in_lane = sync_to_async(_tell)  # once: to ask what kind of function it is takes a tenth of a task's time


async def _atell(
    signal: Signal, sender: type, receiver: Receiver, run: Run, result: AnyResult, error: BaseException | None
) -> None:
    with harmless(run, but=asyncio.CancelledError), _robust(signal, receiver):
        if error is None:
            await receiver(signal=signal, sender=sender, task_result=result)
            return
        trace = error.__traceback__
        try:
            raise error  # noqa: TRY301 - see while_handling()
        except BaseException:  # noqa: BLE001
            await receiver(signal=signal, sender=sender, task_result=result)
        finally:
            BaseException.with_traceback(error, trace)


async def _beside_each_other(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Await coroutines in the context of who awaits: what they bind for logs or traces, the task that follows has."""
    current = asyncio.current_task()
    assert current is not None
    loop, context = asyncio.get_running_loop(), current.get_context()
    await asyncio.gather(*(loop.create_task(coroutine, context=context) for coroutine in coroutines))


@contextmanager
def _robust(signal: Signal, receiver: Receiver) -> Iterator[None]:
    """Log an exception of a receiver as Signal.send_robust() does."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is
        signal._log_robust_failure(receiver, error)  # type: ignore[attr-defined]  # noqa: SLF001


def while_handling(error: BaseException | None, function: Callable[[], object]) -> None:
    """Call a function that looks for an error in ``sys.exc_info()``, as Django's own receivers do."""
    if error is None:
        function()
        return
    trace = error.__traceback__
    try:
        raise error  # noqa: TRY301 - where else
    except BaseException:  # noqa: BLE001 - raised to be handled
        function()
    finally:
        # Runs may share one, whose trace would grow with each. Not by assignment, which an exception that is a frozen
        # dataclass refuses.
        BaseException.with_traceback(error, trace)


def _someone_listens(signal: Signal, djangos_own: Any) -> bool:
    """Tell whether a signal has a receiver beside the one with which Django logs."""
    receivers = signal.receivers  # asked for each task, and to look at all of them would take twice as long
    return len(receivers) > 1 or (len(receivers) == 1 and receivers[0][0][0] != id(djangos_own))


def _django_logs(signal: Signal, djangos_own: Any, level: int) -> bool:
    """Tell whether what Django logs with is connected, and would log at a level."""
    return django_logger.isEnabledFor(level) and any(key == id(djangos_own) for (key, _), *_ in signal.receivers)


def _escaped(text: str) -> str:
    """Return text from a payload as part of one line, whatever it holds."""
    return repr(text)[1:-1]


def _log(run: Run) -> None:
    envelope = run.claim.envelope
    seconds = run.finished_at - run.started_at
    if run.failure is not None:
        logger.warning(
            "Task %s failed after %.3f s: %s: %s id=%s queue=%s attempt=%d",
            envelope.task, seconds, run.failure.exception, " ".join(run.failure.message.split()),
            envelope.id, envelope.queue, envelope.attempt,
        )  # fmt: skip
    elif logger.isEnabledFor(logging.INFO):
        logger.info(
            "Task %s succeeded in %.3f s id=%s queue=%s attempt=%d",
            envelope.task, seconds, envelope.id, envelope.queue, envelope.attempt,
        )  # fmt: skip
