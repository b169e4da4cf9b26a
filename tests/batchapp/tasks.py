"""Batch functions of the tests' workers; each call leaves an entry in the ledger with its members."""

import os
from typing import Any

from asgiref.sync import sync_to_async

from django_vtasks import task
from django_vtasks.errors import BatchFailed
from tests.workapp.tasks import auntil_open, record, until_open

type Members = list[dict[str, Any]]


def _record(key: str, members: Members) -> None:
    record(key, members=[member | {"enqueued_at": str(member["enqueued_at"])} for member in members], pid=os.getpid())


@task
def collect(members: Members) -> None:
    _record("collect", members)
    for member in members:
        record(f"member-{member['kwargs']['number']}")


@task
async def acollect(members: Members) -> None:
    await sync_to_async(_record)("acollect", members)
    for member in members:
        record(f"amember-{member['kwargs']['number']}")


@task
def gated(members: Members) -> None:
    """Run until the test opens the gate."""
    _record("gated", members)
    until_open("gated")
    for member in members:
        record(f"gated-{member['kwargs']['number']}")


@task
async def agated(members: Members) -> None:
    _record("agated", members)
    await auntil_open("agated")
    for member in members:
        record(f"agated-{member['kwargs']['number']}")


@task
def boom(members: Members) -> None:
    record("boom")
    raise ValueError("the whole batch")


@task
def choosy(members: Members) -> dict[str, Exception | None]:
    """Say of each odd member that it failed."""
    return {member["id"]: ValueError("odd") if member["kwargs"]["number"] % 2 else None for member in members}


@task
async def picky(members: Members) -> None:
    """Fail the first member."""
    raise BatchFailed({members[0]["id"]: KeyError("the first")})


@task
def poisoned(members: Members) -> None:
    """Take the actor along whenever the member 13 is there."""
    record("poisoned", numbers=[member["kwargs"]["number"] for member in members])
    if any(member["kwargs"]["number"] == 13 for member in members):
        os._exit(3)
    for member in members:
        record(f"poisoned-{member['kwargs']['number']}")


@task
def chained(members: Members) -> None:
    """Enqueue a successor for each member, three generations in all."""
    for member in members:
        record("chained")
        generation = member["kwargs"]["generation"]
        if generation < 3:
            successor: Any = chained.using(queue_name="widgets")
            successor.enqueue(generation=generation + 1)


@task(takes_context=True)
def with_context(context: Any, members: Members) -> None:
    record("with-context")
