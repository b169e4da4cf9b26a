"""What stands in a store, past its broker: rows of tables, and the keys of a Valkey told as such rows."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import valkey
from django.tasks import task_backends

from django_vtasks import conf
from django_vtasks.backends.valkey import ValkeyTaskBackend
from django_vtasks.brokers.base import Depth
from django_vtasks.brokers.valkey.entry import Entry
from django_vtasks.brokers.valkey.keys import Keys, name
from django_vtasks.db.models import LockRow, TaskRow, TaskState

VALKEY = "django_vtasks.backends.valkey.ValkeyTaskBackend"
DATABASE = "django_vtasks.backends.db.DatabaseTaskBackend"


class Store(Protocol):
    """What a test wants to know that no operator asks for."""

    def rows(self, **conditions: object) -> list[TaskRow]:
        """Return the tasks with these values, in the order in which they came if the store knows it."""
        ...

    def size(self) -> int:
        """Return how many tasks are in the store, whatever their queue and state."""
        ...

    def running(self) -> int:
        """Return how many tasks are claimed."""
        ...

    def locks(self) -> int:
        """Return how many locks of unique tasks are held."""
        ...

    def corrupt(self, task_id: str, payload: bytes) -> None:
        """Replace the payload of a task that waits."""
        ...


@dataclass
class Tables:
    """The tables in the database ``alias``."""

    alias: str

    def rows(self, **conditions: object) -> list[TaskRow]:
        return list(TaskRow.objects.using(self.alias).filter(**conditions).order_by("id"))

    def size(self) -> int:
        return TaskRow.objects.using(self.alias).count()

    def running(self) -> int:
        return TaskRow.objects.using(self.alias).filter(state=TaskState.RUNNING).count()

    def locks(self) -> int:
        return LockRow.objects.using(self.alias).count()

    def corrupt(self, task_id: str, payload: bytes) -> None:
        assert TaskRow.objects.using(self.alias).filter(task_id=task_id).update(payload=payload) == 1


@dataclass
class ValkeyStore:
    """The keys on the server at ``url``, counted by the broker of this process."""

    url: str

    def rows(self, **conditions: object) -> list[TaskRow]:
        return list(Entries(self.url, conditions))

    def size(self) -> int:
        return sum(depth.waiting + depth.delayed + depth.running for depth in self._depths())

    def running(self) -> int:
        return sum(depth.running for depth in self._depths())

    def locks(self) -> int:
        return Locks(self.url).count()

    def corrupt(self, task_id: str, payload: bytes) -> None:
        with valkey.Valkey.from_url(self.url) as client:
            for key in client.keys(f"{conf.current().valkey_prefix}:waiting:*"):
                for index, stored in enumerate(client.lrange(key, 0, -1)):
                    entry = Entry.parse(stored)
                    if entry.id == task_id:
                        client.lset(key, index, bytes(entry._replace(payload=payload)))
                        return
        raise AssertionError(f"Task {task_id} does not wait")

    def _depths(self) -> list[Depth]:
        """Look at all queues in the same moment: a task that goes from one to another is in one of them."""
        backend = task_backends["default"]
        assert isinstance(backend, ValkeyTaskBackend)
        return list(backend.broker.glance({*backend.queues, *backend.broker.queues()}).values())


# One script, so that no task is seen on its way from one key to another.
_DUMP = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  local kind = redis.call('TYPE', key).ok
  local entries = {}
  if kind == 'list' then entries = redis.call('LRANGE', key, 0, -1) end
  if kind == 'zset' then entries = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end
  if kind == 'hash' then entries = redis.call('HGETALL', key) end
  table.insert(found, {key, entries})
end
return found
"""


@dataclass
class Entries:
    """The tasks in a Valkey, read as a queryset of rows is; the rows of a queue that wait come in their order."""

    url: str
    conditions: dict[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[TaskRow]:
        rows = _rows(self.url)
        return (row for row in rows if all(getattr(row, key) == value for key, value in self.conditions.items()))

    async def __aiter__(self) -> AsyncIterator[TaskRow]:
        for row in self:
            yield row

    def filter(self, **conditions: object) -> "Entries":
        return Entries(self.url, self.conditions | conditions)

    def only(self, *names: str) -> "Entries":
        return self

    def values_list(self, name: str, *, flat: bool) -> list[Any]:
        assert flat
        return [getattr(row, name) for row in self]

    def count(self) -> int:
        return len(list(self))

    def exists(self) -> bool:
        return self.count() > 0

    async def aexists(self) -> bool:
        return self.exists()


@dataclass
class Locks:
    """The locks of unique tasks in a Valkey."""

    url: str

    def count(self) -> int:
        with valkey.Valkey.from_url(self.url) as client:
            return len(client.keys(f"{conf.current().valkey_prefix}:lock:*"))

    async def aexists(self) -> bool:
        return self.count() > 0


def _rows(url: str) -> list[TaskRow]:
    prefix = Keys(conf.current().valkey_prefix).prefix
    with valkey.Valkey.from_url(url) as client:
        dump = client.eval(_DUMP, 0, f"{prefix}:*")
    rows: list[TaskRow] = []
    for key, entries in sorted(dump):
        place, *where = key.decode().removeprefix(f"{prefix}:").split(":")
        match place:
            case "waiting":
                rows += (_row(where, stored) for stored in reversed(entries))
            case "suspects":
                rows += (_row(where, stored, TaskState.SUSPECT) for stored in reversed(entries))
            case "delayed":
                due = zip(entries[::2], entries[1::2], strict=True)
                rows += (_row(where, stored, TaskState.DELAYED, due=int(score)) for stored, score in due)
            case "flight":
                rows += (_running(where, stored) for stored in entries[1::2])
    return rows


def _row(where: list[str], stored: bytes, state: TaskState = TaskState.WAITING, **facts: Any) -> TaskRow:
    entry = Entry.parse(stored)
    envelope, problem = entry.read(name(where[-1]))
    return TaskRow(
        task_id=entry.id,
        queue=name(where[-1]),
        state=state,
        rank=0 if problem else -envelope.priority,
        payload=entry.payload,
        crashes=entry.crashes,
        **{"attempt": entry.attempt, **facts},
    )


def _running(where: list[str], stored: bytes) -> TaskRow:
    node, slot, incarnation, _ = where
    owner = f"{name(node)}:{name(slot)}:{incarnation}"
    # What is running counts in a table, and counts in a Valkey once it has run.
    attempt = Entry.parse(stored).attempt + 1
    return _row(where, stored, TaskState.RUNNING, node=name(node), owner=owner, attempt=attempt)
