"""An enqueue stores one task in the project's store, and answers with Django's result or, for a duplicate, None."""

import asyncio
import pickle
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.tasks import TaskResult, TaskResultStatus, task_backends
from django.tasks.exceptions import InvalidTask
from django.tasks.signals import task_enqueued  # noqa: TID251  # received as in a project, not sent
from django.test import override_settings
from django.utils import timezone

from django_vtasks import wire
from django_vtasks.backends.valkey import ValkeyTaskBackend
from django_vtasks.db.models import TaskState
from django_vtasks.errors import PayloadTooLarge
from django_vtasks.signals import task_refused
from tests.app.receivers import connected, heard
from tests.app.tasks import add, forget, multiply, plain_add, take
from tests.integration.stores import DATABASE

AT_ONCE = 5


@pytest.fixture(params=["default", "postgres", "mariadb", "valkey"], ids=["sqlite", "postgres", "mariadb", "valkey"])
def alias(request):
    return request.param


@pytest.fixture(autouse=True)
def backend(backend_settings):
    with override_settings(
        TASKS={"default": backend_settings}, VTASKS_QUEUES=["emails"], VTASKS_BATCH_QUEUES={"widgets": {}}
    ):
        backend = task_backends["default"]
        yield backend
        if isinstance(backend, ValkeyTaskBackend):
            backend.broker.close()


async def enqueue(way, task, *args, **kwargs):
    """Enqueue in one of the two ways there are, the first on a thread of its own as in a synchronous view."""
    if way == "enqueue":
        return await sync_to_async(task.enqueue)(*args, **kwargs)
    return await task.aenqueue(*args, **kwargs)


both_ways = pytest.mark.parametrize("way", ["enqueue", "aenqueue"])


def stored(row):
    return wire.decode(bytes(row.payload))


# What is stored


@both_ways
async def test_a_task_is_stored_as_it_was_called(way, rows):
    result = await enqueue(way, add, 1, b=2)

    [row] = [row async for row in rows]
    assert (row.task_id, row.queue, row.state, row.rank) == (result.id, "default", TaskState.WAITING, 0)
    envelope = stored(row)
    assert (envelope.id, envelope.task) == (result.id, "tests.app.tasks.add")
    assert (envelope.args, envelope.kwargs) == ([1], {"b": 2})


@both_ways
@pytest.mark.parametrize("task", [multiply, plain_add], ids=["async def", "Django's"])
async def test_every_kind_of_task_is_stored(way, task, rows):
    result = await enqueue(way, task, 1)

    assert [(row.task_id, stored(row).task) async for row in rows] == [(result.id, task.module_path)]


@both_ways
async def test_the_options_of_a_task_are_stored(way, rows):
    tomorrow = timezone.now() + timedelta(days=1)

    await enqueue(way, add.using(queue_name="emails", priority=-7, run_after=tomorrow), 1)

    [row] = [row async for row in rows]
    assert (row.queue, row.rank, row.state) == ("emails", 7, TaskState.DELAYED)
    assert abs(row.due - tomorrow.timestamp() * 1_000_000) <= 1


def test_a_batch_queue_is_a_queue_like_any_other(rows):
    add.using(queue_name="widgets").enqueue(1)

    assert [row.queue for row in rows] == ["widgets"]


# The result


@both_ways
@pytest.mark.parametrize("task", [add.using(priority=5), plain_add], ids=["ours", "Django's"])
async def test_the_result_has_all_of_djangos_fields(way, task):
    before = datetime.now(UTC)
    result = await enqueue(way, task, (1,), b={"deep": ("er",)})

    assert isinstance(result, TaskResult)
    assert result.task == task
    assert isinstance(result.id, str)
    assert len(result.id) == 32
    assert result.status is TaskResultStatus.READY
    assert result.enqueued_at is not None
    assert before <= result.enqueued_at <= datetime.now(UTC)
    assert (result.started_at, result.finished_at, result.last_attempted_at) == (None, None, None)
    assert (result.args, result.kwargs, result.backend) == ([[1]], {"b": {"deep": ["er"]}}, "default")
    assert (result.errors, result.worker_ids, result.attempts, result.is_finished) == ([], [], 0, False)
    with pytest.raises(ValueError, match="not finished yet"):
        _ = result.return_value


def test_the_result_is_what_djangos_own_constructor_makes():
    result = add.enqueue(1, b=2)

    assert result == TaskResult(
        task=add,
        id=result.id,
        status=TaskResultStatus.READY,
        enqueued_at=result.enqueued_at,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=[1],
        kwargs={"b": 2},
        backend="default",
        errors=[],
        worker_ids=[],
    )


def test_the_result_survives_pickling():
    result = add.using(unique=True, queue_name="emails").enqueue(1, b=2)

    assert pickle.loads(pickle.dumps(result)) == result  # noqa: S301


def test_the_result_names_the_backend_by_its_alias(backend_settings):
    tasks = dict.fromkeys(("default", "other"), backend_settings)

    with override_settings(TASKS=tasks):
        assert add.using(backend="other").enqueue(1).backend == "other"


def test_where_the_project_has_no_time_zones_times_are_naive(rows):
    with override_settings(USE_TZ=False, TIME_ZONE="Asia/Tokyo"):
        before = timezone.now()
        result = add.using(run_after=timedelta(hours=1)).enqueue(1)

        assert result.enqueued_at is not None
        assert before <= result.enqueued_at <= timezone.now()
    [row] = rows
    assert abs(row.due / 1_000_000 - stored(row).enqueued_at - 3600) < 60


@pytest.mark.parametrize("get", ["get_result", "aget_result"])
async def test_results_cannot_be_read_back_and_the_backend_says_so(get, backend):
    assert not backend.supports_get_result
    with pytest.raises(NotImplementedError):
        await sync_to_async(backend.get_result)("x") if get == "get_result" else await backend.aget_result("x")


def test_the_backend_says_what_it_can_do(backend):
    capabilities = ["defer", "async_task", "priority", "unique", "throttle"]

    assert all(getattr(backend, f"supports_{capability}") for capability in capabilities)


# Refusals

REFUSED = {
    "a datetime": (datetime.now(UTC), TypeError),
    "a set": ({1}, TypeError),
    "an object": (object(), TypeError),
    "a Decimal": (Decimal(1), TypeError),
    "NaN": (float("nan"), TypeError),
    "infinity": (float("inf"), TypeError),
    "a lone surrogate": ("\ud800", TypeError),
    "too much": ("x" * wire.MAX_BYTES, PayloadTooLarge),
}


@both_ways
@pytest.mark.parametrize("unique", [False, True], ids=["plain", "unique"])
@pytest.mark.parametrize(("value", "error"), REFUSED.values(), ids=REFUSED)
async def test_what_cannot_be_stored_is_refused_at_the_enqueue_and_leaves_nothing(
    way, unique, value, error, rows, locks
):
    with heard(task_enqueued) as enqueued, pytest.raises(error):
        await enqueue(way, take.using(unique=unique), {"deep": [value]})

    assert not await rows.aexists()
    assert not await locks.aexists()
    assert enqueued == []


@both_ways
async def test_a_task_that_has_become_invalid_is_refused_at_the_enqueue(way, rows):
    once_valid = add.using(queue_name="emails")

    with override_settings(VTASKS_QUEUES=[]), pytest.raises(InvalidTask, match="Add it to VTASKS_QUEUES"):
        await enqueue(way, once_valid, 1)

    assert not await rows.aexists()


def test_a_task_made_for_another_backend_is_validated_by_the_one_that_enqueues_it(backend_settings, rows):
    tasks = {"default": backend_settings, "other": backend_settings | {"QUEUES": ["reports"]}}

    with override_settings(TASKS=tasks):
        elsewhere = add.using(backend="other", queue_name="reports")
        with pytest.raises(InvalidTask, match="'reports'"):
            task_backends["default"].enqueue(elsewhere, [1], {})

    assert not rows.exists()


# Queues


@pytest.mark.parametrize(
    ("queues", "queue"),
    [
        (["reports"], "reports"),
        ([], "anything"),
        ([], "Größe/日本"),
        (None, "emails"),
        (None, "widgets"),
        (None, "default"),
    ],
)
def test_a_valid_queue_gets_its_task(queues, queue, backend_settings, rows):
    given = backend_settings | ({} if queues is None else {"QUEUES": queues})

    with override_settings(TASKS={"default": given}):
        forget.using(queue_name=queue).enqueue()

    assert [row.queue for row in rows] == [queue]


def test_the_longest_name_of_a_queue_fits(backend_settings, rows):
    with override_settings(TASKS={"default": backend_settings | {"QUEUES": []}}):
        forget.using(queue_name="日" * 100).enqueue()

    assert [row.queue for row in rows] == ["日" * 100]


def test_a_longer_name_of_a_queue_is_refused_as_an_invalid_task_in_every_store(backend_settings, rows):
    tasks = {"default": backend_settings | {"QUEUES": []}}

    with override_settings(TASKS=tasks), pytest.raises(InvalidTask):
        forget.using(queue_name="q" * 101).enqueue()

    assert not rows.exists()


# Unique tasks

THROTTLE: dict[str, Any] = {"ttl": 60, "remove_unique_on_complete": False}


@both_ways
@pytest.mark.parametrize("options", [{}, {"unique_key": "user-5"}, THROTTLE], ids=["mutex", "key", "throttle"])
async def test_an_equal_task_gives_none_and_is_not_stored(way, options, rows, locks):
    unique = take.using(unique=True, **options)

    first = await enqueue(way, unique, "a", 1)
    second = await enqueue(way, unique, "a", 1)

    assert isinstance(first, TaskResult)
    assert second is None
    assert [row.task_id async for row in rows] == [first.id]
    assert await sync_to_async(locks.count)() == 1


@both_ways
async def test_a_key_decides_alone_across_tasks_arguments_and_queues(way, rows):
    key: dict[str, Any] = {"unique": True, "unique_key": "user-5"}

    first = await enqueue(way, add.using(**key), 1)

    assert await enqueue(way, multiply.using(**key, queue_name="emails", priority=9), 2) is None
    assert [row.task_id async for row in rows] == [first.id]


@both_ways
async def test_different_arguments_do_not_hinder_each_other(way, rows):
    unique = take.using(unique=True)

    assert None not in [await enqueue(way, unique, value) for value in (1, "1", [1], None)]
    assert await sync_to_async(rows.count)() == 4


def test_a_mutex_and_a_throttle_of_the_same_key_hinder_each_other():
    unique = take.using(unique=True)

    assert unique.enqueue(1) is not None
    assert unique.using(**THROTTLE).enqueue(1) is None


def test_a_plain_enqueue_is_not_hindered_by_a_unique_one(rows):
    take.using(unique=True).enqueue(1)

    assert take.enqueue(1) is not None
    assert rows.count() == 2


async def test_of_fifty_equal_enqueues_at_once_one_is_accepted(rows):
    unique = take.using(unique=True)

    results: list[Any] = await asyncio.gather(*(unique.aenqueue("same") for _ in range(50)))

    assert results.count(None) == 49
    assert await sync_to_async(rows.count)() == 1


# Signals


@both_ways
async def test_the_signal_of_an_enqueue_brings_its_result(way, backend):
    with heard(task_enqueued) as enqueued, heard(task_refused) as refused:
        result = await enqueue(way, add, 1, b=2)

    assert enqueued == [{"sender": type(backend), "task_result": result}]
    assert refused == []


@both_ways
async def test_the_signal_of_a_refusal_brings_the_task_and_its_arguments(way, backend):
    unique = add.using(unique=True)
    await enqueue(way, unique, 1, b=2)

    with heard(task_enqueued) as enqueued, heard(task_refused) as refused:
        await enqueue(way, unique, 1, b=2)

    assert enqueued == []
    assert refused == [{"sender": type(backend), "task": unique, "args": [1], "kwargs": {"b": 2}}]


@both_ways
async def test_async_receivers_are_called_too(way):
    enqueued, refused = [], []

    async def on_enqueued(sender, task_result, **kwargs):
        await asyncio.sleep(0)
        enqueued.append(task_result.id)

    async def on_refused(sender, task, args, **kwargs):
        await asyncio.sleep(0)
        refused.append(args)

    with connected(task_enqueued, on_enqueued), connected(task_refused, on_refused):
        result = await enqueue(way, add.using(unique=True), 1)
        await enqueue(way, add.using(unique=True), 1)

    assert enqueued == [result.id]
    assert refused == [[1]]


@both_ways
async def test_a_receiver_may_look_into_the_store(way, rows):
    seen = []

    def receiver(sender, task_result, **kwargs):
        seen.extend(rows.filter(task_id=task_result.id).values_list("queue", flat=True))

    async def areceiver(sender, task_result, **kwargs):
        seen.extend([row.queue async for row in rows.filter(task_id=task_result.id)])

    with connected(task_enqueued, receiver), connected(task_enqueued, areceiver):
        await enqueue(way, add, 1)

    assert seen == ["default", "default"]


@both_ways
async def test_the_task_is_stored_when_a_receiver_raises(way, rows):
    def receiver(sender, **kwargs):
        raise ZeroDivisionError

    with connected(task_enqueued, receiver), pytest.raises(ZeroDivisionError):
        await enqueue(way, add, 1)

    assert await sync_to_async(rows.count)() == 1


def test_a_receiver_may_enqueue_another_task(rows):
    def receiver(sender, task_result, **kwargs):
        if task_result.task == add:
            forget.enqueue()

    with connected(task_enqueued, receiver):
        add.enqueue(1)

    assert [stored(row).task for row in rows] == ["tests.app.tasks.add", "tests.app.tasks.forget"]


# Databases that are not there


databases_only = pytest.mark.parametrize(
    "alias", ["default", "postgres", "mariadb"], ids=["sqlite", "postgres", "mariadb"]
)

UNREACHABLE = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/nowhere/at/all.sqlite3"},
    "postgres": {"ENGINE": "django.db.backends.postgresql", "HOST": "/nowhere", "NAME": "vtasks", "USER": "vtasks"},
    "mariadb": {"ENGINE": "django.db.backends.mysql", "HOST": "/nowhere/at/all.sock", "NAME": "vtasks"},
}


@pytest.fixture
def unreachable(alias, monkeypatch):
    """Send this package's tables to a database of the same kind that cannot be reached."""
    monkeypatch.setitem(connections.databases, "unreachable", UNREACHABLE[alias])
    connections.configure_settings(connections.databases)
    with override_settings(TASKS={"default": {"BACKEND": DATABASE, "OPTIONS": {"DATABASE": "unreachable"}}}):
        yield


@databases_only
@both_ways
async def test_a_database_that_is_down_raises_its_own_error_at_once(way, unreachable):
    with heard(task_enqueued) as enqueued, pytest.raises(OperationalError):
        await asyncio.wait_for(enqueue(way, add, 1), AT_ONCE)

    assert enqueued == []


@databases_only
async def test_a_synchronous_enqueue_on_the_loop_is_refused_as_everything_synchronous_in_django(rows):
    with pytest.raises(SynchronousOnlyOperation):
        add.enqueue(1)

    assert not await rows.aexists()


# Which database


@databases_only
def test_the_router_of_the_project_chooses_the_database(alias, rows):
    router = Router(alias)

    with override_settings(TASKS={"default": {"BACKEND": DATABASE}}, DATABASE_ROUTERS=[router]):
        result = add.enqueue(1)

    assert [row.task_id for row in rows] == [result.id]


@databases_only
def test_an_option_is_stronger_than_the_router(alias, rows):
    with override_settings(DATABASE_ROUTERS=[Router("nowhere")]):
        result = add.enqueue(1)

    assert [row.task_id for row in rows] == [result.id]


class Router:
    """Sends this package's tables to one database."""

    def __init__(self, alias):
        self.alias = alias

    def db_for_write(self, model, **hints):
        return self.alias if model._meta.app_label == "vtasks" else None

    def db_for_read(self, model, **hints):
        return DEFAULT_DB_ALIAS if model is Group else None
