"""Tasks for tests to enqueue, and to find again in another process."""

from typing import Any

from django.tasks import task as django_task

from django_vtasks import task


@task
def add(a: int, b: int = 0) -> int:
    return a + b


@task
async def multiply(a: int, b: int = 1) -> int:
    return a * b


@task
def forget() -> None:
    pass


@task
def take(*args: Any) -> None:
    pass


@task
def move(item: int, queue_name: str = "nowhere") -> str:
    return f"{item} to {queue_name}"


@task
def accept(**options: Any) -> dict[str, Any]:
    return options


@django_task
def plain_add(a: int, b: int = 0) -> int:
    return a + b
