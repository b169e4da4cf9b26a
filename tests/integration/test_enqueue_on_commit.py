"""On Valkey a task is sent when the caller's transaction commits, and never was when it is rolled back."""

import asyncio
import contextvars
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction
from django.tasks import task_backends
from django.tasks.signals import task_enqueued  # noqa: TID251 - a user's receiver
from django.test import override_settings
from django.test.testcases import TestCase

from django_vtasks.errors import BrokerUnavailable
from django_vtasks.signals import task_refused
from tests import servers
from tests.app.tasks import add, forget, take
from tests.contract.threads import elsewhere


class Rollback(Exception):
    """Ends a transaction of a test."""


def backend() -> Any:
    return task_backends["default"]


def tasks_on(url):
    backend = "django_vtasks.backends.valkey.ValkeyTaskBackend"
    return {"default": {"BACKEND": backend, "OPTIONS": {"BROKER_URL": url}}}


@pytest.fixture
def broker(valkey_server, database):
    database("default")
    with override_settings(TASKS=tasks_on(valkey_server), VTASKS_QUEUES=["emails"]):
        broker = backend().broker
        broker._link.command("FLUSHDB")
        yield broker
        broker.close()


@pytest.fixture
def waiting(broker):
    """Give a function that counts the tasks that anybody sees."""
    return lambda: broker.depth("default").waiting


@pytest.fixture
def heard():
    """Collect the ids of tasks that signals tell of."""
    enqueued, refused = [], []

    def note_enqueued(sender, task_result, **kwargs):
        enqueued.append(task_result.id)

    def note_refused(sender, task, args, kwargs, **rest):
        refused.append(args)

    task_enqueued.connect(note_enqueued)
    task_refused.connect(note_refused)
    yield enqueued, refused
    task_enqueued.disconnect(note_enqueued)
    task_refused.disconnect(note_refused)


def in_bulk(*numbers):
    return backend().enqueue_many([(add, (number,), {}) for number in numbers])


ENQUEUE = {
    "sync": lambda: add.enqueue(1),
    "async": lambda: async_to_sync(add.aenqueue)(1),
    "bulk": lambda: in_bulk(1)[0],
    "async bulk": lambda: async_to_sync(backend().aenqueue_many)([(add, (1,), {})])[0],
    "unique": lambda: add.using(unique=True).enqueue(1),
    "async unique": lambda: async_to_sync(add.using(unique=True).aenqueue)(1),
}
every_way = pytest.mark.parametrize("enqueue", ENQUEUE.values(), ids=ENQUEUE)


@every_way
def test_a_task_can_be_seen_when_the_transaction_commits_and_not_before(waiting, enqueue):
    with transaction.atomic():
        result = enqueue()
        assert result.id
        assert waiting() == 0

    assert waiting() == 1


@every_way
def test_a_rollback_leaves_neither_task_nor_lock(broker, waiting, enqueue):
    with suppress(Rollback), transaction.atomic():
        enqueue()
        raise Rollback

    assert waiting() == 0
    assert broker._link.command("KEYS", "*") == []
    assert enqueue() is not None


def test_a_coroutine_that_has_lost_its_context_belongs_to_the_transaction_all_the_same(waiting):
    async def enqueue():
        return await asyncio.create_task(add.aenqueue(1), context=contextvars.Context())

    with suppress(Rollback), transaction.atomic():
        assert async_to_sync(enqueue)() is not None
        raise Rollback

    assert waiting() == 0


def test_the_transaction_of_a_thread_is_seen_though_the_coroutine_that_sent_it_off_has_enqueued_before(waiting):
    @sync_to_async
    def in_a_transaction():
        with suppress(Rollback), transaction.atomic():
            async_to_sync(add.aenqueue)(2)
            raise Rollback

    async def enqueue():
        await add.aenqueue(1)
        await in_a_transaction()
        await add.aenqueue(3)

    asyncio.run(enqueue())

    assert waiting() == 2


@every_way
def test_outside_a_transaction_a_task_is_sent_at_once(waiting, enqueue):
    enqueue()

    assert waiting() == 1


@every_way
def test_a_rollback_to_a_savepoint_leaves_what_was_enqueued_around_it(broker, enqueue):
    with transaction.atomic():
        before = forget.enqueue()
        with suppress(Rollback), transaction.atomic():
            enqueue()
            raise Rollback
        after = enqueue()
        assert after is not None

    claims = async_to_sync(claim_all)(broker)
    assert claims == [before.id, after.id]


async def claim_all(broker):
    from django_vtasks.brokers.base import Owner

    broker.renew("north", 60.0)
    return [claim.envelope.id for claim in await broker.claim(Owner("north", "a"), "default", 100)]


def test_of_two_equal_unique_tasks_of_one_transaction_the_second_is_refused(waiting, heard):
    enqueued, refused = heard
    with transaction.atomic():
        first = add.using(unique=True).enqueue(1)
        with transaction.atomic():
            assert add.using(unique=True).enqueue(1) is None
        assert async_to_sync(add.using(unique=True).aenqueue)(1) is None
        assert refused == [[1], [1]]
        assert enqueued == []

    assert waiting() == 1
    assert enqueued == [first.id]


def test_a_task_whose_lock_is_held_is_refused_inside_a_transaction_too(waiting):
    add.using(unique=True).enqueue(1)

    with transaction.atomic():
        assert add.using(unique=True).enqueue(1) is None
        assert add.using(unique=True).enqueue(2) is not None

    assert waiting() == 2


def test_a_lock_that_another_has_taken_before_the_commit_is_told_of(waiting, heard, caplog):
    enqueued, refused = heard
    with transaction.atomic():
        late = add.using(unique=True).enqueue(1)
        early = elsewhere(add.using(unique=True).enqueue, 1)

    assert waiting() == 1
    assert enqueued == [early.id]
    assert refused == [[1]]
    assert late.id in caplog.text


def test_many_tasks_of_a_transaction_are_sent_in_order_and_together(broker, monkeypatch):
    pushes = []
    push = broker.push

    def counted(envelopes, *args):
        pushes.append(len(envelopes))
        return push(envelopes, *args)

    monkeypatch.setattr(broker, "push", counted)
    with transaction.atomic():
        sent = [add.enqueue(number) for number in range(50)] + in_bulk(*range(50))

    assert pushes == [100]
    assert async_to_sync(claim_all)(broker) == [result.id for result in sent]


@pytest.mark.parametrize("argument", [object(), "x" * (17 * 1024 * 1024)], ids=["not JSON", "too large"])
def test_what_cannot_be_sent_is_refused_before_the_commit(waiting, argument):
    with transaction.atomic():
        with pytest.raises((TypeError, ValueError)):
            take.enqueue(argument)
        add.enqueue(1)

    assert waiting() == 1


def test_a_server_that_is_gone_at_the_commit_is_an_error_of_the_caller(database):
    database("default")
    gone = f"valkey://127.0.0.1:{servers.free_port()}"
    with override_settings(TASKS=tasks_on(gone)), pytest.raises(BrokerUnavailable), transaction.atomic():
        add.enqueue(1)


def test_in_djangos_own_test_case_the_callbacks_can_be_run(waiting):
    with transaction.atomic():
        with TestCase.captureOnCommitCallbacks(execute=True):
            add.enqueue(1)

        assert waiting() == 1
