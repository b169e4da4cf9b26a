"""The user's guide, section by section: its code runs as printed, on SQLite with the real database backend.

What is periodic, and what runs in batches, has a module of its own: test_guide_workers.py.
"""

import unittest
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.http import JsonResponse
from django.tasks import TaskResult, TaskResultStatus, task_backends
from django.test import AsyncRequestFactory, override_settings

from django_vtasks.db.models import LockRow, TaskRow
from tests.acceptance.guide import Project, forget

QUEUES = ["emails", "high-priority", "low_priority"]

# What the guide prints ------------------------------------------------------------------------------------------------

DEFINING_TASKS = '''
# myapp/tasks.py
from django_vtasks import task

@task
def send_email(to: str, subject: str, body: str):
    """Send an email."""
    # Your email sending logic
    pass

@task
async def process_image(image_id: int):
    """Process an image asynchronously."""
    # Async tasks are processed natively without thread overhead
    pass
'''

BASIC_ENQUEUE_SYNCHRONOUS = """
from myapp.tasks import send_email

# Synchronous
result = send_email.enqueue("user@example.com", "Hello", "Welcome!")
"""

BASIC_ENQUEUE_ASYNCHRONOUS = """
from myapp.tasks import send_email

# Asynchronous (preferred)
result = await send_email.aenqueue("user@example.com", "Hello", "Welcome!")
"""

USING = """
# Route to a specific queue
await send_email.using(queue_name="emails").aenqueue(
    "user@example.com", "Hello", "Welcome!"
)

# Set priority
await send_email.using(priority=10).aenqueue(
    "admin@example.com", "Urgent", "Server down!"
)

# Combine multiple options
await send_email.using(
    queue_name="high-priority",
    priority=10,
    unique=True,
).aenqueue("admin@example.com", "Alert", "Important message")
"""

BULK = """
from django.tasks import task_backends
from myapp.tasks import process_user, cleanup_job

tasks_to_send = [
    # (task, args, kwargs)
    (process_user, (user1.id,), {}),
    (process_user, (user2.id,), {}),
    (cleanup_job, (), {"queue_name": "low_priority"}),
]
"""

BULK_ASYNCHRONOUS = """
# Async context
await task_backends["default"].aenqueue_many(tasks_to_send)
"""

BULK_SYNCHRONOUS = """
# Sync context (usually within a transaction)
task_backends["default"].enqueue_many(tasks_to_send)
"""

MUTEX = """
# Auto-generated unique key from task name + args
result = await send_email.using(unique=True).aenqueue(
    "user@example.com", "Welcome", "..."
)

# If the task is already queued or running, this returns None
result2 = await send_email.using(unique=True).aenqueue(
    "user@example.com", "Welcome", "..."
)
# result2 is None (rejected as duplicate)
"""

CUSTOM_KEY = """
result = await send_email.using(
    unique=True,
    unique_key=f"email-user-{user_id}"
).aenqueue("user@example.com", "Welcome", "...")
"""

THROTTLING = """
# Only allow 1 API call per 60 seconds
await fetch_data.using(
    unique=True,
    unique_key=f"api-fetch-{user_id}",
    ttl=60,
    remove_unique_on_complete=False,  # Throttle mode
).aenqueue(user_id)
"""

HANDLING_REJECTIONS = """
async def view(request, user):
    result = await send_email.using(unique=True).aenqueue(user.id)

    if result is None:
        # Task was rejected (duplicate found)
        return JsonResponse({"error": "Email already being sent"}, status=429)
    else:
        # Task was enqueued successfully
        return JsonResponse({"task_id": result.id})
"""

PRIORITY_HIGH = """
# High priority task (processed first)
await send_email.using(priority=10).aenqueue(user.id)
"""

PRIORITY_LOW = """
# Low priority task
await send_email.using(priority=-10).aenqueue(user.id)
"""

TESTING = """
from django.test import TestCase, override_settings

@override_settings(
    TASKS={
        "default": {
            "BACKEND": "django_vtasks.backends.immediate.ImmediateBackend",
        }
    }
)
class MyTaskTests(TestCase):
    def test_something(self):
        # Tasks run immediately and synchronously
        my_task.enqueue()
        # ... assertions
"""

TESTING_BATCHES = """
@override_settings(
    TASKS={"default": {"BACKEND": "django_vtasks.backends.immediate.ImmediateBackend"}},
    VTASKS_BATCH_QUEUES={"batch_queue": {"count": 100, "timeout": 5.0}}
)
class MyBatchingTest(TestCase):
    def test_batching(self):
        backend = task_backends["default"]

        for i in range(5):
            process_batch.using(queue_name="batch_queue").enqueue(item_id=i)

        # Tasks are stored, not executed
        self.assertEqual(len(backend.pending_batches["batch_queue"]), 5)

        # Manually trigger batch processing
        backend.flush_batch("batch_queue")

        # Now verify your batch logic ran
        self.assertEqual(len(backend.pending_batches["batch_queue"]), 0)
"""

# What the guide takes for granted -------------------------------------------------------------------------------------

MORE_TASKS = """
from pathlib import Path

from django.tasks import task as django_task

DIARY = Path(__file__).with_name("diary")
ran = []

def note(line):
    with DIARY.open("a") as diary:
        print(line, file=diary)

@task
def process_user(user_id):
    note(f"user {user_id}")

@task
async def cleanup_job():
    note("cleaned up")

@task
def fetch_data(user_id):
    note(f"fetched {user_id}")

@task
def remind(user_id):
    note(f"reminded {user_id}")

@django_task
def plain(word):
    note(f"plain {word}")

@task
def my_task():
    ran.append("my_task")

@task
def process_batch(tasks: list[dict]):
    ran.append([task["kwargs"]["item_id"] for task in tasks])
"""


@pytest.fixture
def project(database, tmp_path, monkeypatch):
    database("default")
    monkeypatch.syspath_prepend(tmp_path)
    with override_settings(VTASKS_QUEUES=QUEUES):
        yield Project(tmp_path, tasks=DEFINING_TASKS + MORE_TASKS, settings=f"VTASKS_QUEUES = {QUEUES!r}\n")
    forget()


def queues_and_priorities():
    return [(row.queue, -row.rank) for row in TaskRow.objects.order_by("id")]


def users(*numbers):
    return {f"user{number}": SimpleNamespace(id=number) for number in numbers}


# Defining Tasks, Enqueueing Tasks -------------------------------------------------------------------------------------


def test_tasks_as_defined_are_run_by_a_worker(project):
    project.tasks.send_email.enqueue("user@example.com", "Hello", "Welcome!")
    project.tasks.process_image.enqueue(image_id=5)
    project.tasks.plain.enqueue("django.tasks")
    assert TaskRow.objects.count() == 3

    assert project.work() == ["plain django.tasks"]


def test_basic_enqueue_in_synchronous_code(project):
    result = project.run(BASIC_ENQUEUE_SYNCHRONOUS).result

    assert isinstance(result, TaskResult)
    assert result.status is TaskResultStatus.READY
    assert result.args == ["user@example.com", "Hello", "Welcome!"]
    assert [row.task_id for row in TaskRow.objects.all()] == [result.id]


async def test_basic_enqueue_in_asynchronous_code(project):
    result = (await project.arun(BASIC_ENQUEUE_ASYNCHRONOUS)).result

    assert isinstance(result, TaskResult)
    assert [row.task_id async for row in TaskRow.objects.all()] == [result.id]


def test_the_using_api(project, asynchronously):
    asynchronously(project.arun(USING, send_email=project.tasks.send_email))

    assert queues_and_priorities() == [("emails", 0), ("default", 10), ("high-priority", 10)]
    assert LockRow.objects.count() == 1
    project.work()


@pytest.fixture
def asynchronously():
    """Give a function that runs a coroutine as a project runs its async views, on this thread's connection."""

    async def await_(coroutine):
        return await coroutine

    return async_to_sync(await_)


# Bulk Enqueueing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["async", "sync", "sync within a transaction"])
def test_bulk_enqueueing(way, project, asynchronously):
    if way == "async":
        asynchronously(project.arun(BULK + BULK_ASYNCHRONOUS, **users(1, 2)))
    elif way == "sync":
        project.run(BULK + BULK_SYNCHRONOUS, **users(1, 2))
    else:
        with transaction.atomic():
            project.run(BULK + BULK_SYNCHRONOUS, **users(1, 2))

    assert [queue for queue, _ in queues_and_priorities()] == ["default", "default", "low_priority"]
    assert sorted(project.work()) == ["cleaned up", "user 1", "user 2"]


# Unique Tasks ---------------------------------------------------------------------------------------------------------


def test_mutex_mode_refuses_until_the_task_has_finished(project, asynchronously):
    def enqueue_twice():
        names = asynchronously(project.arun(MUTEX, send_email=project.tasks.send_email))
        return names.result, names.result2

    first, second = enqueue_twice()
    assert isinstance(first, TaskResult)
    assert second is None
    assert enqueue_twice() == (None, None)

    project.work()

    first, second = enqueue_twice()
    assert isinstance(first, TaskResult)
    assert second is None


def test_custom_unique_keys(project, asynchronously):
    def enqueue(user_id):
        return asynchronously(project.arun(CUSTOM_KEY, send_email=project.tasks.send_email, user_id=user_id)).result

    assert [enqueue(user_id) is None for user_id in (1, 2, 1, 2, 3)] == [False, False, True, True, False]


def test_throttling_mode_refuses_after_the_task_has_finished_too(project, asynchronously):
    def throttle(user_id):
        asynchronously(project.arun(THROTTLING, fetch_data=project.tasks.fetch_data, user_id=user_id))

    throttle(1)
    throttle(1)
    throttle(2)
    assert sorted(project.work()) == ["fetched 1", "fetched 2"]

    throttle(1)
    throttle(2)
    assert not TaskRow.objects.exists()


def test_handling_rejections(project, asynchronously):
    names = project.run(HANDLING_REJECTIONS, send_email=project.tasks.remind, JsonResponse=JsonResponse)
    request = AsyncRequestFactory().get("/")

    def respond():
        return asynchronously(names.view(request, SimpleNamespace(id=1)))

    accepted, rejected = respond(), respond()

    assert accepted.status_code == 200
    assert f'"{TaskRow.objects.get().task_id}"' in accepted.content.decode()
    assert (rejected.status_code, rejected.content) == (429, b'{"error": "Email already being sent"}')


# Priority -------------------------------------------------------------------------------------------------------------


def test_tasks_run_by_priority_then_by_age(project, asynchronously):
    remind = project.tasks.remind
    for user_id, block in enumerate([PRIORITY_LOW, PRIORITY_HIGH, PRIORITY_LOW, PRIORITY_HIGH]):
        asynchronously(project.arun(block, send_email=remind, user=SimpleNamespace(id=user_id)))
        remind.enqueue(user_id + 10)

    order = [1, 3, 10, 11, 12, 13, 0, 2]
    assert project.work("--concurrency", "1") == [f"reminded {user_id}" for user_id in order]


# Testing --------------------------------------------------------------------------------------------------------------


def passes(test_case):
    """Run a TestCase as a test runner does."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(test_case).run(result)
    assert result.testsRun == 1
    assert not result.errors + result.failures, result
    return True


def test_testing(project):
    test_case = project.run(TESTING, __name__="myapp.tests", my_task=project.tasks.my_task).MyTaskTests

    assert passes(test_case)
    assert project.tasks.ran == ["my_task"]
    assert not TaskRow.objects.exists()


def test_testing_batch_tasks(project):
    names = {"my_task": project.tasks.my_task, "process_batch": project.tasks.process_batch}

    test_case = project.run(
        TESTING + TESTING_BATCHES, __name__="myapp.tests", task_backends=task_backends, **names
    ).MyBatchingTest

    assert passes(test_case)
    assert passes(test_case)
    assert project.tasks.ran == [[0, 1, 2, 3, 4]] * 2
    assert not TaskRow.objects.exists()
