"""What a type checker says of the public API. script/lint runs it on this module; nothing else does.

An `ignore` stands where the checker must object: script/lint fails when it no longer does.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from django.core.asgi import get_asgi_application
from django.tasks import Task, TaskContext, TaskResult, TaskResultStatus

from django_vtasks import VTask, task
from django_vtasks.asgi import get_worker_application


@task
def add(a: int, b: int = 0) -> int:
    return a + b


@task()
def shout(text: str, *, times: int = 1) -> str:
    return text.upper() * times


@task(queue_name="emails", priority=5, unique=True, unique_key="k", ttl=60, remove_unique_on_complete=False)
def send(to: str, *subjects: str) -> None:
    pass


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@task(takes_context=True)
def count(context: TaskContext[..., Any], name: str) -> int:
    return context.attempt


@task
def process(members: list[dict[str, Any]]) -> None:
    pass


def a_task_is_djangos_task() -> None:
    ours: VTask[..., int] = add
    djangos: Task[..., int] = add
    assert_type((ours.name, djangos.module_path), tuple[str, str])


def a_task_keeps_the_signature_of_its_function() -> None:
    assert_type(add(1), int)
    assert_type(add(1, b=2), int)
    assert_type(shout("a", times=2), str)
    send("a", "b", "c")

    add("1")  # type: ignore[arg-type]
    add()  # type: ignore[call-arg]
    add(1, 2, 3)  # type: ignore[call-arg]
    add(1, c=2)  # type: ignore[call-arg]
    shout("a", 2)  # type: ignore[call-arg]


async def a_called_async_task_is_to_be_awaited() -> None:
    assert_type(await fetch("url"), bytes)

    await fetch(5)  # type: ignore[arg-type]


async def calls_in_place_return_what_the_function_returns() -> None:
    assert_type(add.call(1, b=2), int)
    assert_type(await add.acall(1, b=2), int)
    assert_type(shout.call("a"), str)

    add.call("1")  # type: ignore[arg-type]
    await add.acall(1, 2, 3)  # type: ignore[call-arg]


async def an_enqueue_takes_the_arguments_of_the_function() -> None:
    add.enqueue(1)
    add.enqueue(1, b=2)
    await shout.aenqueue("a", times=2)
    await fetch.aenqueue("url")

    add.enqueue("1")  # type: ignore[arg-type]
    add.enqueue()  # type: ignore[call-arg]
    shout.enqueue("a", time=2)  # type: ignore[call-arg]
    await add.aenqueue(1, b="2")  # type: ignore[arg-type]
    await fetch.aenqueue()  # type: ignore[call-arg]


async def a_result_knows_what_the_function_returns() -> None:
    result = add.enqueue(1)
    aresult = await shout.aenqueue("a")

    # An enqueue of a unique task may give None.
    assert result is not None
    assert aresult is not None
    assert_type(result.id, str)
    assert_type(result.status, TaskResultStatus)
    assert_type(result.return_value, int)
    assert_type(aresult.return_value, str)
    of_an_integer: TaskResult[..., int] = result
    of_text: TaskResult[..., str] = result  # type: ignore[assignment]
    assert_type((of_an_integer.id, of_text.id), tuple[str, str])


def using_keeps_the_signature() -> None:
    urgent = add.using(
        priority=10,
        queue_name="emails",
        run_after=timedelta(hours=1),
        backend="other",
        unique=True,
        unique_key="k",
        ttl=1.5,
        remove_unique_on_complete=False,
    ).using(run_after=datetime.now(UTC))

    assert_type(urgent(1, b=2), int)
    vtask: VTask[..., int] = urgent
    vtask.using(unique=True)
    urgent.enqueue("1")  # type: ignore[arg-type]

    add.using(priority="5")  # type: ignore[arg-type]
    add.using(run_after=5)  # type: ignore[arg-type]
    add.using(ttl="60")  # type: ignore[arg-type]
    add.using(uniquely=True)  # type: ignore[call-arg]
    add.using(10)  # type: ignore[call-arg]


def the_context_is_no_argument_of_an_enqueue() -> None:
    count.enqueue("me")

    count.enqueue()  # type: ignore[call-arg]
    count.enqueue(5)  # type: ignore[arg-type]


def the_decorator_knows_its_options() -> None:
    decorator = task(unique=True, ttl=60)
    decorated: VTask[..., int] = decorator(plain)
    assert_type(decorated.unique, bool)
    assert_type(decorated.unique_key, str | None)
    assert_type(decorated.ttl, float | None)
    assert_type(decorated.remove_unique_on_complete, bool)

    task(priority="high")  # type: ignore[call-overload]
    task(uniquely=True)  # type: ignore[call-overload]
    task(run_after=timedelta(1))  # type: ignore[call-overload]


def plain(a: int) -> int:
    return a


def a_task_may_be_passed_where_its_function_may() -> None:
    function: Callable[[int], int] = add
    assert_type(function(1), int)

    text: Callable[[int], str] = add  # type: ignore[assignment]
    text(1)


def the_worker_goes_around_djangos_application() -> None:
    application: Callable[[dict[str, Any], Any, Any], Awaitable[None]] = get_worker_application(get_asgi_application())
    get_worker_application(application, backend="default")

    get_worker_application("project.asgi.application")  # type: ignore[arg-type]
    get_worker_application(get_asgi_application(), "default")  # type: ignore[call-arg]
    get_worker_application()  # type: ignore[call-arg]
