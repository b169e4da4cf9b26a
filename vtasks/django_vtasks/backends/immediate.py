"""For tests: tasks run inside enqueue(), those of batch queues when the test says so."""

import traceback
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.core.signals import setting_changed
from django.tasks import TaskResultStatus
from django.tasks.backends.immediate import ImmediateBackend as DjangoImmediateBackend
from django.tasks.base import TaskError
from django.utils import timezone

from django_vtasks import batches, conf, observers, results, wire
from django_vtasks.backends.base import Calls, VTasksBackend
from django_vtasks.envelope import Envelope
from django_vtasks.publishing import Call, Template, parse_calls
from django_vtasks.results import AnyResult, AnyTask

_set = object.__setattr__


class ImmediateBackend(VTasksBackend, DjangoImmediateBackend):
    """Django's immediate backend with queues, bulk and batches; uniqueness is accepted and ignored."""

    @property
    def pending_batches(self) -> dict[str, list[AnyResult]]:
        """Return what waits in each batch queue; a queue without tasks has an empty list."""
        return _pending[self.alias]

    def enqueue(self, task: AnyTask, args: Iterable[Any], kwargs: dict[str, Any]) -> AnyResult:  # type: ignore[override]
        """Run the task, or keep it when its queue is a batch queue."""
        return self._perform(self._prepare((task, tuple(args), kwargs)))

    def enqueue_many(self, calls: Calls) -> list[AnyResult]:
        """Enqueue ``(task, args, kwargs)`` triples one after the other, none when one of them is not valid."""
        return [self._perform(prepared) for prepared in [self._prepare(call) for call in parse_calls(calls)]]

    async def aenqueue_many(self, calls: Calls) -> list[AnyResult]:
        """Enqueue ``(task, args, kwargs)`` triples one after the other."""
        return await sync_to_async(self.enqueue_many)(calls)

    def flush_batch(self, queue_name: str) -> None:
        """Run what waits in a batch queue, one call per function; raise ValueError for any other queue."""
        if queue_name not in conf.current().batch_queues:
            valid = conf.current().batch_queues
            raise ValueError(f"{queue_name!r} is not a batch queue.{conf.nearest(queue_name, valid)}")
        waiting, self.pending_batches[queue_name] = self.pending_batches[queue_name], []
        groups: dict[str, list[AnyResult]] = {}
        for result in waiting:
            groups.setdefault(result.task.module_path, []).append(result)
        for group in groups.values():
            self._run_group(group)

    def flush_batches(self) -> None:
        """Run what waits in all batch queues."""
        for queue_name in conf.current().batch_queues:
            self.flush_batch(queue_name)

    async def aflush_batch(self, queue_name: str) -> None:
        """Run what waits in a batch queue."""
        await sync_to_async(self.flush_batch)(queue_name)

    async def aflush_batches(self) -> None:
        """Run what waits in all batch queues."""
        await sync_to_async(self.flush_batches)()

    def _prepare(self, call: Call) -> tuple[AnyTask, Envelope]:
        """Check a call as a backend with a broker would."""
        task, args, kwargs = call
        self.validate_task(task)
        envelope = Template(task, max_rescues=0).filled(args, kwargs)
        wire.encode(envelope)
        return task, envelope

    def _perform(self, prepared: tuple[AnyTask, Envelope]) -> AnyResult:
        task, envelope = prepared
        if task.queue_name not in conf.current().batch_queues:
            return super().enqueue(task, envelope.args, envelope.kwargs)
        result = results.build(task, envelope, self.alias)
        self.pending_batches[task.queue_name].append(result)
        observers.enqueued(type(self), result)
        return result

    def _run_group(self, group: list[AnyResult]) -> None:
        now = timezone.now()
        for result in group:
            result.worker_ids.append(self.worker_id)
            for name in ("started_at", "last_attempted_at"):
                _set(result, name, now)
            _set(result, "status", TaskResultStatus.RUNNING)
            observers.began(type(self), result)
        function = group[0].task.func
        members, ids = [_member(result) for result in group], [result.id for result in group]
        try:
            value = async_to_sync(function)(members) if iscoroutinefunction(function) else function(members)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - the border to user code
            self._end_group(group, batches.fates_of_error(error, ids))
        else:
            self._end_group(group, batches.fates_of_return(value, ids))

    def _end_group(self, group: list[AnyResult], fates: batches.Fates) -> None:
        for result in group:
            error = fates.get(result.id)
            _set(result, "finished_at", timezone.now())
            _set(result, "status", TaskResultStatus.SUCCESSFUL if error is None else TaskResultStatus.FAILED)
            if error is not None:
                path = f"{type(error).__module__}.{type(error).__qualname__}"
                text = "".join(traceback.format_exception(error))
                result.errors.append(TaskError(exception_class_path=path, traceback=text))
            observers.ended_by(error, type(self), result)


def _member(result: AnyResult) -> dict[str, Any]:
    return batches.member(
        result.id,
        result.task.queue_name,
        result.task.module_path,
        result.args,
        result.kwargs,
        result.enqueued_at,
        result.attempts,
    )


# Of the process, not of the backend object: Django makes one of those per thread or asyncio task.
_pending: defaultdict[str, defaultdict[str, list[AnyResult]]] = defaultdict(lambda: defaultdict(list))


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting in {"TASKS", "VTASKS_QUEUES", "VTASKS_BATCH_QUEUES"}:
        _pending.clear()


setting_changed.connect(_forget, dispatch_uid="django_vtasks.backends.immediate")
