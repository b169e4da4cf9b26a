"""What our backends share: valid queues, validation, bulk."""

from collections.abc import Coroutine, Iterable
from datetime import datetime
from inspect import markcoroutinefunction
from typing import Any

from django.apps import apps
from django.core import checks
from django.tasks import DEFAULT_TASK_QUEUE_NAME
from django.tasks.backends.base import BaseTaskBackend

from django_vtasks import conf
from django_vtasks.brokers.base import Broker
from django_vtasks.errors import ConfigError, InvalidTask
from django_vtasks.publishing import Publisher, parse_calls
from django_vtasks.results import AnyResult, AnyTask
from django_vtasks.tasks import VTask

type Calls = Iterable[tuple[AnyTask, Iterable[Any], dict[str, Any]]]


class VTasksBackend(BaseTaskBackend):
    """A backend whose tasks are VTasks and whose queues follow the VTASKS_ settings as they change."""

    task_class = VTask
    supports_async_task = True
    supports_priority = True
    supports_unique = False
    supports_throttle = False
    valid_options: frozenset[str] = frozenset()

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        self._explicit_queues: set[str] | None = set(params["QUEUES"]) if "QUEUES" in params else None
        super().__init__(alias, params)
        for name in self.options.keys() - self.valid_options:
            hint = conf.nearest(name, self.valid_options)
            raise ConfigError(f"TASKS[{alias!r}]['OPTIONS'] has no option {name!r}.{hint}")

    @property
    def queues(self) -> set[str]:
        """Return the valid queue names; an empty set means any."""
        if self._explicit_queues is not None:
            return self._explicit_queues
        if conf.problems():
            return set()  # tasks are declared while a system check, which tells of them all, imports the project
        return {DEFAULT_TASK_QUEUE_NAME, *conf.current().queues}

    @queues.setter
    def queues(self, value: set[str]) -> None:
        """Ignore what Django's constructor derives from QUEUES alone."""

    def validate_task(self, task: AnyTask) -> None:
        """Raise InvalidTask, naming the setting or argument to change."""
        if type(task.priority) is not int:
            raise InvalidTask(f"priority must be a whole number between -100 and 100, not {task.priority!r}.")
        if not conf.is_queue_name(task.queue_name):
            raise InvalidTask(f"Queue {task.queue_name!r} is not valid for backend: a name is {conf.QUEUE_NAME_RULE}.")
        if task.run_after is not None and not isinstance(task.run_after, datetime):
            raise InvalidTask(f"run_after must be a datetime, not {task.run_after!r}.")
        if self.queues and task.queue_name not in self.queues:
            where = "VTASKS_QUEUES" if self._explicit_queues is None else f"TASKS[{self.alias!r}]['QUEUES']"
            raise InvalidTask(
                f"Queue '{task.queue_name}' is not valid for backend. Add it to {where}."
                f"{conf.nearest(task.queue_name, self.queues)}"
            )
        super().validate_task(task)

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        """Return what Django's system checks should say of this backend."""
        return list(super().check(**kwargs))


class BrokerBackend(VTasksBackend):
    """A backend in front of a broker."""

    keeps_nothing = True
    """One object may serve all threads."""
    supports_defer = True

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        """Add that the worker needs its app."""
        messages = super().check(**kwargs)
        if not apps.is_installed("django_vtasks"):
            messages.append(
                checks.Error(
                    f"TASKS[{self.alias!r}] uses {type(self).__name__} without the app that has its worker.",
                    hint="Add 'django_vtasks' to INSTALLED_APPS.",
                    id="vtasks.E007",
                )
            )
        return messages

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self._made_publisher: Publisher | None = None

    @property
    def supports_unique(self) -> bool:  # type: ignore[override]
        """Tell whether an equal task can be refused while one is under way."""
        return self.broker.capabilities.unique

    @property
    def supports_throttle(self) -> bool:  # type: ignore[override]
        """Tell whether an equal task can be refused for a time."""
        return self.broker.capabilities.throttle

    @property
    def broker(self) -> Broker:
        """Return the process's broker for this backend's options."""
        raise NotImplementedError

    def enqueue(self, task: AnyTask, args: Iterable[Any], kwargs: dict[str, Any]) -> AnyResult | None:  # type: ignore[override]
        """Enqueue one call; None when an equal unique task is under way."""
        return self._publisher().publish_one(task, args, kwargs)

    @markcoroutinefunction  # without a coroutine of its own, as in VTask
    def aenqueue(  # type: ignore[override]
        self, task: AnyTask, args: Iterable[Any], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, AnyResult | None]:
        """Enqueue one call without blocking the loop."""
        return self._publisher().apublish_one(task, args, kwargs)

    def enqueue_many(self, calls: Calls) -> list[AnyResult | None]:
        """Enqueue ``(task, args, kwargs)`` triples in bulk; results in their order, None for duplicates."""
        return self._publisher().publish(parse_calls(calls))

    async def aenqueue_many(self, calls: Calls) -> list[AnyResult | None]:
        """Enqueue ``(task, args, kwargs)`` triples in bulk without blocking the loop."""
        return await self._publisher().apublish(parse_calls(calls))

    def _publisher(self) -> Publisher:
        broker, publisher = self.broker, self._made_publisher
        if publisher is None or publisher.broker is not broker:
            validates_once = type(self).validate_task is VTasksBackend.validate_task
            publisher = self._made_publisher = Publisher(
                self.alias, broker, type(self), self.validate_task, validates_once=validates_once
            )
        return publisher
