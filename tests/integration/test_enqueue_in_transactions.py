"""On the database backend a task is part of the caller's transaction: it commits with it or never was."""

from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.db import transaction
from django.tasks import task_backends
from django.test import override_settings

from django_vtasks.db.models import LockRow, TaskRow
from tests.app.tasks import add, forget, take
from tests.contract.threads import elsewhere


class Rollback(Exception):
    """Ends a transaction of a test."""


@pytest.fixture(params=["default", "postgres", "mariadb"], ids=["sqlite", "postgres", "mariadb"])
def alias(request):
    return request.param


@pytest.fixture(autouse=True)
def backend(alias, database):
    backend = "django_vtasks.backends.db.DatabaseTaskBackend"
    tasks = {"default": {"BACKEND": backend, "OPTIONS": {"DATABASE": database(alias)}}}
    with override_settings(TASKS=tasks, VTASKS_QUEUES=["emails"]):
        yield task_backends["default"]
    Group.objects.using(alias).all().delete()


@pytest.fixture
def atomic(alias):
    return lambda: transaction.atomic(using=alias)


@pytest.fixture
def tasks(alias):
    """Give a function that counts the tasks that anybody sees."""
    return lambda: elsewhere(TaskRow.objects.using(alias).count)


@pytest.fixture
def locks(alias):
    return lambda: elsewhere(LockRow.objects.using(alias).count)


def test_a_task_can_be_seen_when_the_transaction_commits_and_not_before(atomic, tasks):
    with atomic():
        add.enqueue(1)
        assert tasks() == 0

    assert tasks() == 1


@pytest.mark.parametrize("unique", [False, True], ids=["plain", "unique"])
def test_a_rollback_leaves_neither_task_nor_lock(unique, atomic, tasks, locks, alias):
    task = add.using(unique=unique)

    with suppress(Rollback), atomic():
        Group.objects.using(alias).create(name="editors")
        assert task.enqueue(1) is not None
        raise Rollback

    assert (tasks(), locks(), Group.objects.using(alias).count()) == (0, 0, 0)
    assert task.enqueue(1) is not None


@pytest.mark.parametrize("commits", [True, False], ids=["commits", "rolls back"])
def test_an_asynchronous_enqueue_joins_the_transaction_it_is_awaited_in(commits, backend, atomic, tasks, locks):
    async def enqueue():
        await add.using(unique=True).aenqueue(1)
        await backend.aenqueue_many([(take, (number,), {}) for number in range(2)])

    with suppress(Rollback), atomic():
        async_to_sync(enqueue)()
        assert tasks() == 0
        if not commits:
            raise Rollback

    assert (tasks(), locks()) == ((3, 1) if commits else (0, 0))


def test_a_rollback_leaves_nothing_of_a_bulk(backend, atomic, tasks, locks):
    with suppress(Rollback), atomic():
        results = backend.enqueue_many((add.using(unique=True), (number,), {}) for number in range(6_000))
        assert None not in results
        raise Rollback

    assert (tasks(), locks()) == (0, 0)


def test_a_rollback_to_a_savepoint_takes_back_what_came_after_it(atomic, tasks):
    with atomic():
        add.enqueue(1)
        with suppress(Rollback), atomic():
            take.using(unique=True).enqueue(2)
            raise Rollback
        assert take.using(unique=True).enqueue(2) is not None

    assert tasks() == 2


def test_a_duplicate_leaves_the_transaction_usable(atomic, tasks, alias):
    unique = add.using(unique=True)
    unique.enqueue(1)

    with atomic():
        Group.objects.using(alias).create(name="before")
        assert unique.enqueue(1) is None
        Group.objects.using(alias).create(name="after")
        assert forget.enqueue() is not None

    assert Group.objects.using(alias).count() == 2
    assert tasks() == 2


def test_duplicates_in_a_bulk_leave_the_transaction_usable(backend, atomic, tasks, alias):
    unique = add.using(unique=True)

    with atomic():
        first = backend.enqueue_many([(unique, (1,), {}), (unique, (1,), {}), (unique, (2,), {})])
        second = backend.enqueue_many([(unique, (2,), {}), (unique, (3,), {})])
        Group.objects.using(alias).create(name="after")

    assert [result is None for result in first + second] == [False, True, False, True, False]
    assert tasks() == 3


@pytest.mark.parametrize("value", [object(), "\ud800"], ids=["an object", "a lone surrogate"])
def test_a_refused_argument_leaves_the_transaction_usable(value, atomic, tasks, alias):
    with atomic():
        with pytest.raises(TypeError):
            take.enqueue(value)
        Group.objects.using(alias).create(name="after")
        take.enqueue("good")

    assert Group.objects.using(alias).count() == 1
    assert tasks() == 1


def test_a_task_may_be_enqueued_on_commit(atomic, tasks, alias):
    with atomic():
        transaction.on_commit(forget.enqueue, using=alias)
        assert tasks() == 0

    assert tasks() == 1


def test_outside_a_transaction_a_bulk_is_stored_wholly_or_not_at_all(backend, tasks, locks):
    calls: list[Any] = [(add.using(unique=True), (number,), {}) for number in range(6_000)]

    with pytest.raises(TypeError):
        backend.enqueue_many([*calls, (take, (object(),), {})])

    assert (tasks(), locks()) == (0, 0)
