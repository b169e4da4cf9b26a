"""A bulk is stored in a few statements however long it is, and answered call by call."""

import itertools
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.tasks import TaskResultStatus, task_backends
from django.tasks.exceptions import InvalidTask
from django.tasks.signals import task_enqueued  # noqa: TID251  # received as in a project, not sent
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_vtasks import wire
from django_vtasks.backends.valkey import ValkeyTaskBackend
from django_vtasks.db.models import TaskState
from django_vtasks.errors import PayloadTooLarge
from django_vtasks.signals import task_refused
from tests.app.receivers import heard
from tests.app.tasks import accept, add, forget, move, multiply, plain_add, take

QUEUES = ["emails", "low_priority"]


@pytest.fixture(params=["default", "postgres", "mariadb", "valkey"], ids=["sqlite", "postgres", "mariadb", "valkey"])
def alias(request):
    return request.param


@pytest.fixture(autouse=True)
def backend(backend_settings):
    with override_settings(TASKS={"default": backend_settings}, VTASKS_QUEUES=QUEUES):
        backend = task_backends["default"]
        yield backend
        if isinstance(backend, ValkeyTaskBackend):
            backend.broker.close()


@pytest.fixture(params=["enqueue_many", "aenqueue_many"])
def enqueue_many(request, backend):
    """Give each of the two ways to enqueue in bulk, the first on a thread of its own as in a synchronous view."""
    if request.param == "enqueue_many":
        return sync_to_async(backend.enqueue_many)
    return backend.aenqueue_many


def envelopes(rows):
    return [wire.decode(bytes(row.payload)) for row in rows]


async def test_results_come_in_the_order_of_the_calls(enqueue_many, rows):
    results = await enqueue_many([(add, (number,), {"b": 1}) for number in range(50)])

    assert [result.args for result in results] == [[number] for number in range(50)]
    stored = envelopes([row async for row in rows])
    assert [(envelope.id, envelope.args, envelope.kwargs) for envelope in stored] == [
        (result.id, result.args, {"b": 1}) for result in results
    ]


async def test_a_result_of_a_bulk_is_like_any_other(enqueue_many):
    [result] = await enqueue_many([(add, [1], {"b": 2})])
    single = await add.aenqueue(1, b=2)

    assert (result.task, result.status, result.backend) == (single.task, TaskResultStatus.READY, "default")
    assert (result.args, result.kwargs, result.errors, result.worker_ids) == ([1], {"b": 2}, [], [])
    assert result.enqueued_at <= single.enqueued_at
    assert len(result.id) == 32


@pytest.mark.parametrize(
    "none", [list, tuple, {}.items, lambda: zip((), strict=True)], ids=["list", "tuple", "view", "iterator"]
)
async def test_nothing_gives_nothing(enqueue_many, none, rows):
    assert await enqueue_many(none()) == []
    assert not await rows.aexists()


ITERABLES: dict[str, Callable[[], Iterable[Any]]] = {
    "a tuple": lambda: ((add, (1,), {}), (add, (2,), {})),
    "a view": {number: (add, (number,), {}) for number in (1, 2)}.values,
    "a generator": lambda: ((add, (number,), {}) for number in (1, 2)),
    "an iterator": lambda: zip([add, add], [[1], [2]], [{}, {}], strict=True),
}


@pytest.mark.parametrize("calls", ITERABLES.values(), ids=ITERABLES)
async def test_any_iterable_is_a_bulk(enqueue_many, calls, rows):
    results = await enqueue_many(calls())

    assert [result.args for result in results] == [[1], [2]]
    assert await sync_to_async(rows.count)() == 2


async def test_the_arguments_of_a_call_may_be_a_list_or_a_tuple(enqueue_many):
    results = await enqueue_many([(take, [1, 2], {}), (take, (1, 2), {})])

    assert [result.args for result in results] == [[1, 2], [1, 2]]


async def test_a_bulk_may_mix_tasks_of_every_kind(enqueue_many, rows):
    results = await enqueue_many([(add, (1,), {}), (multiply, (2,), {}), (plain_add, (3,), {}), (forget, (), {})])

    tasks = ["add", "multiply", "plain_add", "forget"]
    assert [result.task.name for result in results] == tasks
    assert [envelope.task for envelope in envelopes([row async for row in rows])] == [
        f"tests.app.tasks.{name}" for name in tasks
    ]


async def test_twelve_thousand_calls_are_stored_in_order(enqueue_many, rows):
    results = await enqueue_many((add, (number,), {}) for number in range(12_000))

    assert [result.args for result in results] == [[number] for number in range(12_000)]
    assert [row.task_id async for row in rows.only("task_id")] == [result.id for result in results]


# Statements


# On PostgreSQL the statements go past Django's cursors, and so past its log.
where_statements_are_counted = pytest.mark.parametrize("alias", ["default", "mariadb"], ids=["sqlite", "mariadb"])


def inserts_of_one_bulk(backend, alias, calls):
    connections[alias].ensure_connection()
    with CaptureQueriesContext(connections[alias]) as statements:
        backend.enqueue_many(calls)
    return [query["sql"] for query in statements if "INSERT" in query["sql"]]


@where_statements_are_counted
def test_a_bulk_is_stored_with_as_few_statements_as_a_single_call(backend, alias, rows):
    one = inserts_of_one_bulk(backend, alias, [(add, (1,), {})])
    thousand = inserts_of_one_bulk(backend, alias, [(add, (number,), {}) for number in range(1000)])

    assert rows.count() == 1001
    assert len(one) == 1
    assert len(thousand) == 1


@where_statements_are_counted
def test_a_bulk_takes_one_statement_for_each_queue_at_most(backend, alias, rows):
    calls: list[Any] = [
        (add.using(queue_name=QUEUES[number % 2], priority=number % 5), (number,), {}) for number in range(1000)
    ]

    assert len(inserts_of_one_bulk(backend, alias, calls)) <= 2
    assert rows.count() == 1000


# Options


async def test_every_call_keeps_the_options_of_its_task(enqueue_many, rows):
    results = await enqueue_many(
        [
            (add.using(priority=10), (1,), {}),
            (add.using(queue_name="emails", priority=-10), (2,), {}),
            (add.using(run_after=timedelta(hours=1)), (3,), {}),
            (add, (4,), {}),
        ]
    )

    assert {(row.task_id, row.queue, row.rank, row.state) async for row in rows} == {
        (results[0].id, "default", -10, TaskState.WAITING),
        (results[1].id, "emails", 10, TaskState.WAITING),
        (results[2].id, "default", 0, TaskState.DELAYED),
        (results[3].id, "default", 0, TaskState.WAITING),
    }


@pytest.mark.parametrize(
    "options",
    [{}, {"unique_key": "k"}, {"ttl": 60, "remove_unique_on_complete": False}],
    ids=["mutex", "key", "throttle"],
)
async def test_a_duplicate_gives_none_at_its_position_and_the_rest_is_stored(enqueue_many, options, rows):
    unique = add.using(unique=True, **options)
    await unique.aenqueue(0)

    results = await enqueue_many([(forget, (), {}), (unique, (0,), {}), (add, (0,), {}), (unique, (0,), {})])

    assert [result is None for result in results] == [False, True, False, True]
    assert [row.task_id async for row in rows][1:] == [results[0].id, results[2].id]


async def test_of_equal_calls_in_one_bulk_the_first_is_stored(enqueue_many, rows):
    unique = add.using(unique=True)

    results = await enqueue_many([(unique, (1,), {}), (unique, (2,), {}), (unique, (1,), {}), (unique, (2,), {})])

    assert [result and result.args for result in results] == [[1], [2], None, None]
    assert await sync_to_async(rows.count)() == 2


async def test_duplicates_across_the_chunks_of_a_large_bulk_are_refused(enqueue_many, rows):
    unique = add.using(unique=True)

    results = await enqueue_many((unique, (number % 6_000,), {}) for number in range(12_000))

    assert None not in results[:6_000]
    assert set(results[6_000:]) == {None}
    assert await sync_to_async(rows.count)() == 6_000


# Routes


async def test_a_queue_name_among_the_arguments_routes_the_call(enqueue_many, rows):
    results = await enqueue_many([(forget, (), {"queue_name": "low_priority"}), (add, (1,), {"queue_name": "emails"})])

    assert [result.task.queue_name for result in results] == ["low_priority", "emails"]
    assert [result.kwargs for result in results] == [{}, {}]
    stored = [row async for row in rows]
    assert {row.task_id: row.queue for row in stored} == {results[0].id: "low_priority", results[1].id: "emails"}
    assert [envelope.kwargs for envelope in envelopes(stored)] == [{}, {}]


async def test_a_function_that_takes_a_queue_name_gets_it(enqueue_many, rows):
    await enqueue_many([(move, (1,), {"queue_name": "low_priority"}), (accept, (), {"queue_name": "nowhere", "a": 1})])

    stored = [row async for row in rows]
    assert [row.queue for row in stored] == ["default", "default"]
    assert [envelope.kwargs for envelope in envelopes(stored)] == [
        {"queue_name": "low_priority"},
        {"queue_name": "nowhere", "a": 1},
    ]


async def test_a_routed_unique_call_is_unique_wherever_it_goes(enqueue_many):
    unique = add.using(unique=True)

    results = await enqueue_many([(unique, (1,), {"queue_name": "emails"}), (unique, (1,), {})])

    assert [result is None for result in results] == [False, True]


# Refusals


async def test_a_call_for_an_unknown_queue_refuses_the_bulk(enqueue_many, rows):
    with pytest.raises(InvalidTask, match=r"'low-priority' is not valid.*VTASKS_QUEUES.*Did you mean 'low_priority'"):
        await enqueue_many([(add, (1,), {}), (forget, (), {"queue_name": "low-priority"})])

    assert not await rows.aexists()


@pytest.mark.parametrize(
    "wrong",
    [(add,), (add, (1,)), (add, (1,), {}, 4), add, None],
    ids=["one", "two", "four", "a task", "None"],
)
async def test_what_is_no_triple_refuses_the_bulk_and_names_the_position(enqueue_many, wrong, rows):
    with pytest.raises(TypeError, match=r"^Item 1 is not a \(task, args, kwargs\) triple"):
        await enqueue_many([(add, (1,), {}), wrong, (add, (2,), {})])

    assert not await rows.aexists()


@pytest.mark.parametrize(
    ("value", "error"),
    [(object(), TypeError), (float("nan"), TypeError), ("x" * wire.MAX_BYTES, PayloadTooLarge)],
    ids=["an object", "NaN", "too much"],
)
async def test_an_argument_that_cannot_be_stored_refuses_the_whole_bulk(enqueue_many, value, error, rows, locks):
    unique = take.using(unique=True)

    with heard(task_enqueued) as enqueued, pytest.raises(error):
        await enqueue_many([(unique, (1,), {}), (take, (value,), {}), (unique, (2,), {})])

    assert not await rows.aexists()
    assert not await locks.aexists()
    assert enqueued == []


async def test_what_a_generator_raises_reaches_the_caller_and_nothing_is_stored(enqueue_many, rows):
    def calls():
        yield (add, (1,), {})
        raise LookupError

    with pytest.raises(LookupError):
        await enqueue_many(calls())

    assert not await rows.aexists()


# Signals


async def test_each_call_of_a_bulk_has_its_signal(enqueue_many, backend):
    unique = add.using(unique=True)

    with heard(task_enqueued) as enqueued, heard(task_refused) as refused:
        results = await enqueue_many([(unique, (1,), {}), (unique, (1,), {}), (forget, (), {})])

    assert enqueued == [{"sender": type(backend), "task_result": results[place]} for place in (0, 2)]
    assert refused == [{"sender": type(backend), "task": unique, "args": [1], "kwargs": {}}]


async def test_ids_of_a_bulk_are_all_different(enqueue_many):
    results = await enqueue_many(itertools.repeat((forget, (), {}), 5_000))

    assert len({result.id for result in results}) == 5_000
