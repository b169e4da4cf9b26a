"""A task is Django's Task with uniqueness: how it is made, varied, compared, copied and called."""

import pickle
from copy import copy, deepcopy
from dataclasses import FrozenInstanceError, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import django
import pytest
from django.tasks import Task
from django.tasks import task as django_task
from django.test import override_settings
from django.utils import timezone

from django_vtasks import VTask, task
from tests.app.tasks import add, multiply, plain_add

DATABASE = "django_vtasks.backends.db.DatabaseTaskBackend"
TOMORROW = datetime.now(UTC) + timedelta(days=1)
EVERYTHING: dict[str, Any] = {
    "priority": 10,
    "queue_name": "high-priority",
    "run_after": TOMORROW,
    "backend": "other",
    "unique": True,
    "unique_key": "user-5",
    "ttl": 60,
    "remove_unique_on_complete": False,
}

since_6_1 = pytest.mark.skipif(django.VERSION < (6, 1), reason="Django 6.0 has no task_class")


@pytest.fixture(autouse=True)
def backends():
    tasks = {"default": {"BACKEND": DATABASE}, "other": {"BACKEND": DATABASE}}
    with override_settings(TASKS=tasks, VTASKS_QUEUES=["emails", "high-priority"], VTASKS_BATCH_QUEUES={"widgets": {}}):
        yield


def greet(name):
    return f"Hello {name}"


async def agreet(name):
    return f"Hello {name}"


def count_attempts(context):
    return context.attempt


def options(task):
    """Return all that a task says beside its function."""
    return {field.name: getattr(task, field.name) for field in fields(task) if field.name != "func"}


# The decorator


@pytest.mark.parametrize("decorator", [task, task(), task(priority=0)], ids=["@task", "@task()", "@task(priority=0)"])
@pytest.mark.parametrize("function", [greet, agreet])
def test_every_form_of_the_decorator_makes_the_same_task(decorator, function):
    made = decorator(function)

    assert type(made) is VTask
    assert isinstance(made, Task)
    assert made.func is function
    assert made == VTask(func=function)


def test_without_options_a_task_has_the_defaults():
    assert options(task(greet)) == {
        "priority": 0,
        "queue_name": "default",
        "run_after": None,
        "backend": "default",
        "takes_context": False,
        "unique": False,
        "unique_key": None,
        "ttl": None,
        "remove_unique_on_complete": True,
    }


def test_the_decorator_takes_every_option():
    given = {name: value for name, value in EVERYTHING.items() if name != "run_after"} | {"takes_context": True}

    made = task(**given)(count_attempts)

    assert options(made) == given | {"run_after": None}


def test_a_task_is_a_frozen_dataclass_without_a_dictionary():
    assert is_dataclass(add)
    assert not hasattr(add, "__dict__")
    with pytest.raises(FrozenInstanceError):
        add.unique = True  # type: ignore[misc]


def test_run_after_cannot_be_given_to_the_decorator():
    with pytest.raises(TypeError, match=r"run_after cannot be defined statically.*\.using\(run_after="):
        task(run_after=TOMORROW)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["uniquely", "retries"])
def test_an_option_that_does_not_exist_is_a_type_error(name):
    with pytest.raises(TypeError, match=name):
        task(**{name: 1})(greet)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=name):
        add.using(**{name: 1})  # type: ignore[arg-type]


@since_6_1
@pytest.mark.parametrize("name", ["default", "other"])
def test_djangos_decorator_makes_our_task_too(name):
    made = django_task(unique=True, backend=name)(greet)  # type: ignore[call-overload]

    assert made == task(unique=True, backend=name)(greet)
    assert type(made) is VTask


@since_6_1
def test_djangos_decorator_without_options_makes_our_task_too():
    assert django_task(greet) == task(greet)


# Variations


def test_using_takes_every_option():
    assert options(add.using(**EVERYTHING)) == EVERYTHING | {"takes_context": False}


@pytest.mark.parametrize("name", EVERYTHING)
def test_using_changes_what_is_given_and_nothing_else(name):
    others = EVERYTHING | {
        "priority": -5,
        "queue_name": "emails",
        "ttl": 30,
        "unique_key": "user-6",
        "backend": "default",
    }
    start = add.using(**others)

    assert options(start.using(**{name: EVERYTHING[name]})) == options(start) | {name: EVERYTHING[name]}


def test_using_chains():
    chained = add
    for name, value in EVERYTHING.items():
        if name != "remove_unique_on_complete":
            chained = chained.using(**{name: value})
    chained = chained.using(remove_unique_on_complete=False)

    assert chained == add.using(**EVERYTHING)


def test_using_leaves_the_original_unchanged():
    before = options(add)

    changed = add.using(**EVERYTHING)

    assert options(add) == before
    assert changed.func is add.func
    assert type(changed) is VTask


def test_using_nothing_is_an_equal_task():
    assert add.using() == add


@pytest.mark.parametrize(("option", "value"), [("priority", 0), ("unique", False), ("remove_unique_on_complete", True)])
def test_using_can_go_back_to_what_counts_as_false(option, value):
    throttled = add.using(priority=5, unique=True, ttl=60, remove_unique_on_complete=False)

    assert getattr(throttled.using(**{option: value}), option) == value


def test_run_after_counts_a_timedelta_from_now():
    before = timezone.now()
    run_after = add.using(run_after=timedelta(hours=1)).run_after
    after = timezone.now()

    assert run_after is not None
    assert before + timedelta(hours=1) <= run_after <= after + timedelta(hours=1)


def test_a_timedelta_counts_from_now_without_time_zones_too():
    with override_settings(USE_TZ=False):
        before = timezone.now()
        run_after = add.using(run_after=timedelta(hours=1)).run_after

    assert run_after is not None
    assert run_after.tzinfo is None
    assert before + timedelta(hours=1) <= run_after < before + timedelta(hours=2)


def test_run_after_takes_a_datetime_as_it_is():
    assert add.using(run_after=TOMORROW).run_after is TOMORROW


# Equality and copies


def test_equal_tasks_are_equal_and_have_one_hash():
    one, other = add.using(**EVERYTHING), add.using(**EVERYTHING)

    assert one is not other
    assert one == other
    assert len({one, other}) == 1


@pytest.mark.parametrize("name", EVERYTHING)
def test_tasks_that_differ_in_one_option_are_not_equal(name):
    start = add.using(ttl=30)

    assert start.using(**{name: EVERYTHING[name]}) != start


def test_tasks_with_different_functions_are_not_equal():
    assert len({add, multiply, plain_add, task(greet), task(agreet)}) == 5


@since_6_1
def test_a_task_is_equal_to_the_one_that_djangos_decorator_makes():
    assert plain_add == task(plain_add.func)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("original", [add, multiply, add.using(priority=5)], ids=["def", "async def", "using"])
def test_a_pickled_task_comes_back_equal(original, protocol):
    copied = pickle.loads(pickle.dumps(original, protocol))  # noqa: S301

    assert copied == original
    assert hash(copied) == hash(original)
    assert copied.func is original.func


def test_a_pickled_task_keeps_every_option():
    original = add.using(**EVERYTHING)

    copied = pickle.loads(pickle.dumps(original))  # noqa: S301

    assert copied == original
    assert options(copied) == EVERYTHING | {"takes_context": False}


def test_a_pickle_holds_the_path_of_the_function_and_not_the_function():
    assert b"tests.app.tasks.add" in pickle.dumps(add)


@pytest.mark.parametrize("duplicate", [copy, deepcopy])
def test_a_copied_task_is_equal(duplicate):
    original = add.using(**EVERYTHING)

    assert duplicate(original) == original


hidden = task(greet)


def test_a_pickle_of_a_task_whose_name_is_not_its_functions_says_why_it_cannot_be_read():
    pickled = pickle.dumps(hidden)

    with pytest.raises(ValueError, match=r"greet' to point to a Task instance"):
        pickle.loads(pickled)  # noqa: S301


# Calls


def test_a_called_task_runs_in_place():
    assert add(1, b=2) == 3
    assert add.using(unique=True)(1, 2) == 3


async def test_a_called_async_task_gives_its_coroutine():
    assert await multiply(2, b=3) == 6


def in_place(way, task, *args, **kwargs):
    return getattr(task, way)(*args, **kwargs)


def test_call_runs_tasks_of_both_kinds():
    assert in_place("call", add, 1, b=2) == 3
    assert in_place("call", multiply, 2, b=3) == 6


async def test_acall_runs_tasks_of_both_kinds():
    assert await in_place("acall", add, 1, b=2) == 3
    assert await in_place("acall", multiply, 2, b=3) == 6


@pytest.mark.parametrize("way", ["__call__", "call"])
def test_what_a_called_task_raises_reaches_the_caller(way):
    with pytest.raises(TypeError, match="required positional argument"):
        in_place(way, add)


def test_a_task_has_djangos_name_and_path():
    assert (add.name, add.module_path) == ("add", "tests.app.tasks.add")


def test_the_context_of_a_called_task_is_what_the_caller_gives():
    assert in_place("call", task(takes_context=True)(count_attempts), SimpleNamespace(attempt=3)) == 3
