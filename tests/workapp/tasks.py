"""What the tests' workers run; each run leaves an entry in a ledger of files, outside the store under test."""

import asyncio
import contextlib
import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db import connections, transaction
from django.tasks import task as djangos_task
from django.tasks.signals import task_finished, task_started  # noqa: TID251  # received as in a project, not sent
from django.utils import translation

from django_vtasks import task

LEDGER = Path(os.environ.get("TEST_LEDGER", tempfile.gettempdir()))
ALIAS = os.environ.get("TEST_TASKS_DATABASE", "default")
PATIENCE = 60.0
LOOK_EVERY = 0.005

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


# The ledger ------------------------------------------------------------------------------------------------------


def record(key: str, **facts: Any) -> None:
    """Add an entry; the n-th of a key is the file ``key.n``, which exists with all its text or not at all."""
    draft = LEDGER / f".{os.getpid()}-{threading.get_ident()}"
    draft.write_text(json.dumps(facts))
    for number in itertools.count(1):
        with contextlib.suppress(FileExistsError):
            os.link(draft, LEDGER / f"{key}.{number}")
            break
    draft.unlink()


def entries(key: str) -> int:
    """Return how many entries a key has."""
    return len(list(LEDGER.glob(f"{key}.*")))


def is_open(gate: str) -> bool:
    return (LEDGER / f"{gate}-open").exists()


def until_open(gate: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_open(gate) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)


async def auntil_open(gate: str) -> None:
    deadline = time.monotonic() + PATIENCE
    # The gate is opened by another process, which can set no Event here.
    while not is_open(gate) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_EVERY)


# Plain work ------------------------------------------------------------------------------------------------------


@task
def note(key, *args, **kwargs):
    """Record the arguments; the return value is discarded by every store."""
    record(key, args=args, kwargs=kwargs, thread=threading.current_thread().name)
    return {"discarded": key}


@task
async def anote(key, *args, **kwargs):
    record(key, args=args, kwargs=kwargs, thread=threading.current_thread().name)
    return {"discarded": key}


@djangos_task
def stock_note(key):
    """Django's own decorator, not ours."""
    record(key)


@task(takes_context=True)
def note_context(context, key):
    result = context.task_result
    record(key, id=result.id, attempt=context.attempt, status=result.status, workers=result.worker_ids)


@task(takes_context=True)
async def anote_context(context, key):
    result = context.task_result
    record(key, id=result.id, attempt=context.attempt, status=result.status, workers=result.worker_ids)


@task
def work(key, seconds):
    time.sleep(seconds)
    record(key)


@task
async def awork(key, seconds):
    await asyncio.sleep(seconds)
    record(key)


@task
def spawn(key, generations):
    """Enqueue a task that does the same, as often as there are generations left."""
    if generations:
        spawn.enqueue(f"{key}x", generations - 1)
    record(key)


@task
async def aspawn(key, generations):
    if generations:
        await aspawn.aenqueue(f"{key}x", generations - 1)
    record(key)


@task
def relay(key, queue_name):
    """Enqueue into another queue, then end."""
    note.using(queue_name=queue_name).enqueue(key)


@task
async def chain(key, queues):
    """Enqueue the same into the first of the queues, with the others to go; then end."""
    if queues:
        await chain.using(queue_name=queues[0]).aenqueue(key, queues[1:])
    record(f"{key}-{len(queues)}")


# Tasks that take long --------------------------------------------------------------------------------------------


@task(takes_context=True)
def hold(context, key):
    """Run until the test opens the gate named like the key."""
    record(key, attempt=context.attempt, worker=context.task_result.worker_ids[-1], pid=os.getpid())
    until_open(key)
    record(f"{key}-end", attempt=context.attempt)


@task(takes_context=True)
async def ahold(context, key):
    record(key, attempt=context.attempt, worker=context.task_result.worker_ids[-1], pid=os.getpid())
    try:
        await auntil_open(key)
    except asyncio.CancelledError:
        record(f"{key}-cancelled")
        raise
    record(f"{key}-end", attempt=context.attempt)


@task
async def stubborn(key):
    """Ignore being cancelled until the gate opens."""
    record(key)
    while not is_open(key):
        with contextlib.suppress(asyncio.CancelledError):
            await auntil_open(key)


@task
async def hold_in_thread(key):
    """Wait for a thread of the loop's default executor, which nobody can cancel."""
    record(key)
    await asyncio.to_thread(until_open, key)


@task
async def hold_in_lane(key):
    """Wait for the thread on which the ORM runs, which nobody can cancel."""
    record(key)
    await sync_to_async(until_open)(key)


@task
async def leave_job_behind(key):
    """End while a job of the loop's default executor goes on."""
    asyncio.get_running_loop().run_in_executor(None, until_open, "never")
    record(key)


@task
def leave_thread_behind(key):
    """End while a thread goes on for which the interpreter would wait."""
    threading.Thread(target=until_open, args=("never",), daemon=False).start()
    record(key)


@task
async def leave_coroutine_behind(key):
    """End while a coroutine goes on that refuses to be cancelled."""
    left_behind.append(asyncio.create_task(stubborn.func("never")))
    record(key)


left_behind: list[asyncio.Task[Any]] = []


WAYS_TO_DIE = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "exit 0": lambda: os._exit(0),
    "exit 3": lambda: os._exit(3),
}


@task
def die(key, how, company=0):
    """Take the actor along, as soon as so many tasks named "company" have begun."""
    record(key)
    while entries("company") < company:
        time.sleep(LOOK_EVERY)
    WAYS_TO_DIE[how]()


@task
async def exit_in_child(key):
    """Let a task of the loop, which is not that of this task, call sys.exit()."""
    record(key)

    async def leave():
        await asyncio.sleep(0)
        sys.exit(3)

    await asyncio.create_task(leave())


@task
async def block_the_loop(key):
    """Let nothing else run in the actor until the gate opens."""
    record(key)
    until_open(key)


@task
def leave_processes_behind(key):
    """End while a program and a fork go on that this task has started."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        fork = os.fork()  # in a process with threads
    if not fork:
        time.sleep(600)
        os._exit(0)
    record(key, pid=os.getpid(), left=[program.pid, fork])


# Failures --------------------------------------------------------------------------------------------------------


class Doom(BaseException):
    """What `except Exception` does not catch."""


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Spiteful(Exception):
    def __str__(self):
        raise SystemExit("no words")


def _recurse():
    return _recurse() + 1


FAILURES: dict[str, type[BaseException]] = {
    "ValueError": ValueError,
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "CancelledError": asyncio.CancelledError,
    "Doom": Doom,
    "Mute": Mute,
    "Spiteful": Spiteful,
    "ExceptionGroup": lambda text: BaseExceptionGroup(text, [Doom(), ValueError()]),  # type: ignore[dict-item]
    "not text": lambda text: ValueError("\x00 \ud800 " + text),  # type: ignore[dict-item]
    "several lines": lambda text: ValueError(f"first\nsecond\n{text}"),  # type: ignore[dict-item]
    "long": lambda text: ValueError(text * 1_000_000),  # type: ignore[dict-item]
}


def _fail(kind):
    if kind == "RecursionError":
        _recurse()
    if kind == "unserializable":
        return object()
    if kind == "not finite":
        return float("nan")
    raise FAILURES[kind]("no such address")


@task
def fail(kind):
    return _fail(kind)


@task
async def afail(kind):
    return _fail(kind)


@task
async def afail_later(kind):
    """Fail after the loop has had its turn, as most coroutines would."""
    await asyncio.sleep(0)
    return _fail(kind)


@task
async def cancel_itself():
    current = asyncio.current_task()
    assert current is not None
    current.cancel()
    await asyncio.sleep(0)


def not_a_task(key):
    record(key)


@task
def loaded(key, module):
    """Record whether the worker has imported a module."""
    record(key, loaded=module in sys.modules)


# Database connections --------------------------------------------------------------------------------------------


def connection_id() -> int:
    """Return what no two open connections have in common."""
    connection = connections[ALIAS]
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        return id(connection.connection)
    function = {"postgresql": "pg_backend_pid()", "mysql": "CONNECTION_ID()"}[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}")
        (number,) = cursor.fetchone()
    return int(number)


@task
def meet(key, parties):
    """Hold a connection until as many tasks as ``parties`` hold one, or nobody comes any more."""
    ContentType.objects.using(ALIAS).count()
    record(key, connection=connection_id(), thread=threading.get_ident())
    deadline = time.monotonic() + PATIENCE
    while entries(key) < parties and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)


@task
async def ameet(key, parties):
    await ContentType.objects.using(ALIAS).aexists()
    first = await sync_to_async(connection_id)()
    record(key, connection=first, thread=await sync_to_async(threading.get_ident)())
    deadline = time.monotonic() + PATIENCE
    while entries(key) < parties and time.monotonic() < deadline:  # noqa: ASYNC110  # others make the entries
        await asyncio.sleep(LOOK_EVERY)
    record(f"{key}-again", before=first, after=await sync_to_async(connection_id)())


@task
async def ameet_inside(key, parties):
    """Wait for the others on the thread of the ORM itself: tasks that shared it would never meet."""

    def wait():
        record(key, connection=connection_id())
        deadline = time.monotonic() + 10
        while entries(key) < parties and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY)
        return entries(key) >= parties

    record(f"{key}-met", met=await sync_to_async(wait)())


def _spoil(how):
    connection = connections[ALIAS]
    connection.ensure_connection()
    match how:
        case "closed":
            connection.close()
        case "closed by the driver":
            connection.connection.close()
        case "no autocommit":
            connection.set_autocommit(False)
            Group.objects.using(ALIAS).create(name="never committed")
        case "failed statement":
            connection.set_autocommit(False)
            with contextlib.suppress(Exception), connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM no_such_table")
        case "open atomic block":
            block = transaction.atomic(using=ALIAS)
            block.__enter__()
            Group.objects.using(ALIAS).create(name="never committed")
        case "broken atomic block":
            block = transaction.atomic(using=ALIAS)
            block.__enter__()
            connection.needs_rollback = True
        case "open transaction":
            with connection.cursor() as cursor:
                cursor.execute("BEGIN")
            Group.objects.using(ALIAS).create(name="never committed")
        case _:
            raise ValueError(how)


@task
def spoil(how):
    """Leave the thread's connection in a state in which nobody should find it."""
    _spoil(how)


@task
async def aspoil(how):
    await sync_to_async(_spoil)(how)


@task
def add_group(name):
    Group.objects.using(ALIAS).create(name=name)


@task
async def aadd_group(name):
    await Group.objects.using(ALIAS).acreate(name=name)


# Context ---------------------------------------------------------------------------------------------------------


@task
def leave_context(name):
    tenant.set(name)
    translation.activate("fr")


@task
async def aleave_context(name):
    tenant.set(name)
    translation.activate("fr")
    await ContentType.objects.using(ALIAS).aexists()


@task
def see_context(key):
    record(key, tenant=tenant.get(), language=translation.get_language())


@task
async def asee_context(key):
    inside = await sync_to_async(tenant.get)()
    record(key, tenant=tenant.get(), language=translation.get_language(), inside=inside)


@contextlib.contextmanager
def as_tenant(context):
    """Be VTASKS_TASK_CONTEXT for tasks of either kind."""
    token = tenant.set(f"tenant of {context.task_result.id}")
    record("hook", begins=context.task_result.id, attempt=context.attempt)
    try:
        yield
    finally:
        tenant.reset(token)
        record("hook", ends=context.task_result.id)


@contextlib.asynccontextmanager
async def as_async_tenant(context):
    """Be VTASKS_TASK_CONTEXT for async tasks."""
    await asyncio.sleep(0)
    with as_tenant(context):
        yield


def refusing_hook(context):
    raise PermissionError("no tenant")


@contextlib.contextmanager
def forgiving_hook(context):
    """Swallow what the task raises."""
    with contextlib.suppress(ValueError):
        yield


# Receivers of Django's signals, connected in the workers of the tests that ask for them ----------------------------


def _record_signal(name, task_result, kind):
    facts = {"id": task_result.id, "status": task_result.status, "kind": kind}
    if task_result.is_finished:
        facts["finished"] = task_result.finished_at is not None
        facts["errors"] = [error.exception_class_path for error in task_result.errors]
        facts["tracebacks"] = [error.traceback for error in task_result.errors]
        facts["value"] = task_result._return_value
    record(f"{name}-{task_result.id}", **facts)


def on_started(sender, task_result, **kwargs):
    _record_signal("started", task_result, "sync")


def on_finished(sender, task_result, **kwargs):
    _record_signal("finished", task_result, "sync")


async def aon_started(sender, task_result, **kwargs):
    await asyncio.sleep(0)
    _record_signal("started", task_result, "async")


async def aon_finished(sender, task_result, **kwargs):
    await asyncio.sleep(0)
    _record_signal("finished", task_result, "async")


def on_anything_fail(sender, task_result, **kwargs):
    raise ValueError("a receiver's own trouble")


def on_anything_exit(sender, task_result, **kwargs):
    raise SystemExit("a receiver's own idea")


RECEIVERS = {
    "sync": {task_started: on_started, task_finished: on_finished},
    "async": {task_started: aon_started, task_finished: aon_finished},
    "exiting": {task_started: on_anything_exit, task_finished: on_anything_exit},
    "failing": {task_started: on_anything_fail, task_finished: on_anything_fail},
}

for wanted in os.environ.get("TEST_RECEIVERS", "").split():
    for djangos_signal, receiver in RECEIVERS[wanted].items():
        djangos_signal.connect(receiver)
