"""From what an operator types to what there is: backends, queues and failed tasks by name."""

from collections.abc import Collection, Iterator, Sequence
from itertools import batched

from django.tasks import task_backends
from django.tasks.exceptions import InvalidTaskBackend

from django_vtasks import conf, topology
from django_vtasks.backends.base import BrokerBackend
from django_vtasks.brokers.base import Broker
from django_vtasks.errors import VTasksError

AT_ONCE = 500
"""Failed tasks that one call retries or deletes."""
MOST_IDS = 1000
"""Failed tasks among which the nearest id is looked for."""


class NoSuchName(VTasksError):
    """There is no such backend, queue or failed task; the message is one line that names the nearest there is."""


def backend_called(alias: str | None) -> BrokerBackend:
    """Return the backend with this alias, or the worker's default; raise NoSuchName, or ConfigError if it is wrong."""
    alias = alias or conf.current().backend
    try:
        return topology.backend_with_broker(alias)
    except InvalidTaskBackend as error:
        if alias in task_backends.settings:
            raise NoSuchName(str(error)) from error
        raise NoSuchName(
            f"TASKS has no backend {alias!r}.{conf.nearest(alias, list(task_backends.settings))}"
        ) from error


def known_queues(backend: BrokerBackend) -> list[str]:
    """Return the queues that tasks may be sent to, that hold any from when they might, and that are paused; sorted."""
    return sorted({*backend.queues, *backend.broker.queues(), *backend.broker.paused()})


def check_queue(backend: BrokerBackend, queue: str) -> None:
    """Raise NoSuchName unless a queue is known, or any name is valid."""
    if not backend.queues and conf.is_queue_name(queue):
        return
    if queue not in backend.queues and queue not in (known := known_queues(backend)):
        raise NoSuchName(f"There is no queue {queue!r}.{conf.nearest(queue, known)}")


def check_failed(broker: Broker, task_ids: Collection[str]) -> None:
    """Raise NoSuchName unless each of the tasks is in the failed list."""
    for task_id in task_ids:
        if broker.failed_task(task_id) is None:
            ids = [entry.id for entry in broker.failed(MOST_IDS)]
            raise NoSuchName(f"No failed task has the id {task_id!r}.{conf.nearest(task_id, ids)}")


def in_chunks(task_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield as many failed tasks as are retried or deleted at a time: each may be large."""
    yield from batched(task_ids, AT_ONCE)
