"""A task that is part of a transaction counts as submitted when, and only when, that commits."""

import tracemalloc

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from django_vtasks.metrics import tally
from tests.workapp import tasks

pytestmark = pytest.mark.parametrize(
    "alias", ["default", "postgres", "mariadb", "valkey"], indirect=True,
    ids=["sqlite", "postgresql", "mariadb", "valkey"],
)  # fmt: skip


LARGE = 500_000


class Undo(Exception):
    pass


@pytest.fixture
def submitted():
    """Give a function that tells how many were submitted since the test began."""
    labels = tasks.note.module_path, "default"
    before = tally.submitted[labels].value
    return lambda: tally.submitted[labels].value - before


@pytest.fixture
def using(stage, alias):
    return "default" if alias == "valkey" else alias


def _enqueue_and_undo(using):
    with transaction.atomic(using=using):
        tasks.note.enqueue("a")
        async_to_sync(tasks.note.aenqueue)("c")
        raise Undo


def test_outside_of_one_at_once(stage, submitted):
    tasks.note.enqueue("a")
    stage.enqueue_many([(tasks.note, ("b",), {})] * 3)
    async_to_sync(tasks.note.aenqueue)("c")

    assert submitted() == stage.size() == 5


def test_at_the_commit(stage, submitted, using):
    with transaction.atomic(using=using):
        tasks.note.enqueue("a")
        stage.enqueue_many([(tasks.note, ("b",), {})] * 3)
        async_to_sync(tasks.note.aenqueue)("c")
        assert submitted() == 0

    assert submitted() == stage.size() == 5


def test_not_when_it_is_rolled_back(stage, submitted, using):
    with pytest.raises(Undo):
        _enqueue_and_undo(using)

    assert submitted() == stage.size() == 0


def test_not_when_its_savepoint_is_rolled_back(stage, submitted, using):
    with transaction.atomic(using=using):
        tasks.note.enqueue("stays")
        with pytest.raises(Undo):
            _enqueue_and_undo(using)

    assert submitted() == stage.size() == 1


def test_nothing_large_is_kept_until_then(stage, submitted, using, alias):
    with transaction.atomic(using=using):
        tracemalloc.start()
        try:
            for _ in range(10):
                tasks.note.enqueue(LARGE * "x")
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        if alias != "valkey":  # which gets it at the commit
            assert kept < 2 * LARGE

    assert submitted() == stage.size() == 10


def test_duplicates_never(stage, submitted, using):
    unique = tasks.note.using(unique=True)
    with transaction.atomic(using=using):
        assert unique.enqueue("a") is not None
        assert unique.enqueue("a") is None
    assert unique.enqueue("a") is None

    assert submitted() == stage.size() == 1
