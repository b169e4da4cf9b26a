"""The user's guide, section by section: what it prints runs as printed, on each kind of store that it speaks of."""

import signal
import time
import unittest
import urllib.request
from datetime import datetime
from datetime import time as clock
from importlib.metadata import metadata
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction
from django.http import JsonResponse
from django.tasks import TaskResult, TaskResultStatus, task_backends
from django.test import AsyncRequestFactory, override_settings
from django.utils.timezone import get_default_timezone
from prometheus_client.parser import text_string_to_metric_families

from tests import servers
from tests.acceptance import printed
from tests.acceptance.guide import Project, forget
from tests.integration.pages import Pages
from tests.integration.probes import eventually

HOUR = 3600
LONGEST_DAY = 25 * HOUR

# What the guide takes for granted -------------------------------------------------------------------------------------

QUEUES = ["emails", "high-priority", "low_priority"]
BATCH_TIMEOUT = 5.0
SOON = """
VTASKS_SCHEDULE["cleanup"]["schedule"] = 1
"""

WITH_DJANGO_PROMETHEUS = """
INSTALLED_APPS = ["django_prometheus", *INSTALLED_APPS]
ROOT_URLCONF = "django_prometheus.urls"
"""
EMBEDDED = """
from django.core.asgi import get_asgi_application
from django_vtasks.asgi import get_worker_application

application = get_worker_application(get_asgi_application())
"""

MORE_TASKS = """
import asyncio
from pathlib import Path

from django.tasks import task as django_task
from myapp.models import Widget

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

@task
def fail():
    raise ValueError("on purpose")

@task
async def hold():
    await remind.aenqueue(1)
    await asyncio.sleep(3600)

@django_task
def plain(word):
    note(f"plain {word}")

@task
def my_task():
    ran.append("my_task")

@task
def process_batch(tasks: list[dict]):
    ran.append([task["kwargs"]["item_id"] for task in tasks])

@task
def report():
    note("report")

@task
def cleanup():
    note("cleanup")

@task
def paint_widgets_batch(tasks: list[dict]):
    note(f"painted {len(tasks)} widgets")
"""

MODELS = """
from django.db import models

class Widget(models.Model):
    processed = models.BooleanField(default=False)

    class Meta:
        app_label = "myapp"
"""


@pytest.fixture
def make_project(store, tmp_path, monkeypatch):
    """Give a function that makes a project with these settings."""
    monkeypatch.syspath_prepend(tmp_path)
    tasks = printed.DEFINING_TASKS + MORE_TASKS + printed.BATCH_TASK
    yield lambda settings: Project(tmp_path, tasks=tasks, models=MODELS, settings=settings, alias=store.alias)
    forget()


@pytest.fixture
def project(make_project):
    with override_settings(VTASKS_QUEUES=QUEUES):
        yield make_project(f"VTASKS_QUEUES = {QUEUES!r}\n")


@pytest.fixture
def work(project, store):
    """Give a function that lets a worker do all there is to do, and returns what the tasks have noted."""

    def work(*options):
        said = project.manage("runworker", "--burst", *options)
        assert store.rows() == [], said
        assert store.broker.failed(10) == [], said
        return project.diary

    return work


@pytest.fixture
def asynchronously():
    """Give a function that runs a coroutine as a project runs its async views, on this thread's connection."""

    async def await_(coroutine):
        return await coroutine

    return async_to_sync(await_)


def users(*numbers):
    return {f"user{number}": SimpleNamespace(id=number) for number in numbers}


# Defining Tasks, Enqueueing Tasks -------------------------------------------------------------------------------------


def test_tasks_as_defined_are_run_by_a_worker(project, store, work):
    project.tasks.send_email.enqueue("user@example.com", "Hello", "Welcome!")
    project.tasks.process_image.enqueue(image_id=5)
    project.tasks.plain.enqueue("django.tasks")
    assert len(store.rows()) == 3

    assert work() == ["plain django.tasks"]


def test_basic_enqueue_in_synchronous_code(project, store):
    result = project.run(printed.BASIC_ENQUEUE_SYNCHRONOUS).result

    assert isinstance(result, TaskResult)
    assert result.status is TaskResultStatus.READY
    assert result.args == ["user@example.com", "Hello", "Welcome!"]
    assert [row.task_id for row in store.rows()] == [result.id]


async def test_basic_enqueue_in_asynchronous_code(project, store):
    result = (await project.arun(printed.BASIC_ENQUEUE_ASYNCHRONOUS)).result

    assert isinstance(result, TaskResult)
    assert [row.task_id for row in await sync_to_async(store.rows)()] == [result.id]
    await store.broker.aclose()


def test_the_using_api(project, store, work, asynchronously):
    asynchronously(project.arun(printed.USING, send_email=project.tasks.send_email))

    found = sorted((row.queue, -row.rank) for row in store.rows())
    assert found == [("default", 10), ("emails", 0), ("high-priority", 10)]
    assert store.locks() == 1
    work()


# Bulk Enqueueing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["async", "sync", "sync within a transaction"])
def test_bulk_enqueueing(way, project, store, work, asynchronously):
    if way == "async":
        asynchronously(project.arun(printed.BULK + printed.BULK_ASYNCHRONOUS, **users(1, 2)))
    elif way == "sync":
        project.run(printed.BULK + printed.BULK_SYNCHRONOUS, **users(1, 2))
    else:
        with transaction.atomic(using=store.alias):
            project.run(printed.BULK + printed.BULK_SYNCHRONOUS, **users(1, 2))

    assert sorted(row.queue for row in store.rows()) == ["default", "default", "low_priority"]
    assert sorted(work()) == ["cleaned up", "user 1", "user 2"]


# Unique Tasks ---------------------------------------------------------------------------------------------------------


def test_mutex_mode_refuses_until_the_task_has_finished(project, work, asynchronously):
    def enqueue_twice():
        names = asynchronously(project.arun(printed.MUTEX, send_email=project.tasks.send_email))
        return names.result, names.result2

    first, second = enqueue_twice()
    assert isinstance(first, TaskResult)
    assert second is None
    assert enqueue_twice() == (None, None)

    work()

    first, second = enqueue_twice()
    assert isinstance(first, TaskResult)
    assert second is None


def test_custom_unique_keys(project, asynchronously):
    def enqueue(user_id):
        names = {"send_email": project.tasks.send_email, "user_id": user_id}
        return asynchronously(project.arun(printed.CUSTOM_KEY, **names)).result

    assert [enqueue(user_id) is None for user_id in (1, 2, 1, 2, 3)] == [False, False, True, True, False]


def test_throttling_mode_refuses_after_the_task_has_finished_too(project, store, work, asynchronously):
    def throttle(user_id):
        asynchronously(project.arun(printed.THROTTLING, fetch_data=project.tasks.fetch_data, user_id=user_id))

    throttle(1)
    throttle(1)
    throttle(2)
    assert sorted(work()) == ["fetched 1", "fetched 2"]

    throttle(1)
    throttle(2)
    assert store.rows() == []


def test_handling_rejections(project, store, asynchronously):
    names = project.run(printed.HANDLING_REJECTIONS, send_email=project.tasks.remind, JsonResponse=JsonResponse)
    request = AsyncRequestFactory().get("/")

    def respond():
        return asynchronously(names.view(request, SimpleNamespace(id=1)))

    accepted, rejected = respond(), respond()

    assert accepted.status_code == 200
    [row] = store.rows()
    assert f'"{row.task_id}"' in accepted.content.decode()
    assert (rejected.status_code, rejected.content) == (429, b'{"error": "Email already being sent"}')


def test_what_the_backend_says_of_unique_tasks_is_true(store):
    backend: Any = task_backends["default"]

    assert (backend.supports_unique, backend.supports_throttle) == (True, True)


# Priority -------------------------------------------------------------------------------------------------------------


def test_tasks_run_by_priority(project, store, work, asynchronously):
    remind = project.tasks.remind
    blocks = [printed.PRIORITY_LOW, printed.PRIORITY_HIGH, printed.PRIORITY_LOW, printed.PRIORITY_HIGH]
    for user_id, block in enumerate(blocks):
        asynchronously(project.arun(block, send_email=remind, user=SimpleNamespace(id=user_id)))
        remind.enqueue(user_id + 10)

    # Valkey has an express lane, whose last task comes first, and one for all others.
    order = [3, 1, 0, 10, 11, 2, 12, 13] if store.is_valkey else [1, 3, 10, 11, 12, 13, 0, 2]
    assert work("--concurrency", "1") == [f"reminded {user_id}" for user_id in order]


# Periodic Tasks -------------------------------------------------------------------------------------------------------


def test_periodic_tasks_as_printed_are_due_at_their_times(make_project, store, start):
    project = make_project(printed.PERIODIC_TASKS)
    assert "no issues" in project.manage("check")
    began, pages = time.time(), Pages(port := servers.free_port())
    worker = start(project, printed.WITH_SCHEDULER, VTASKS_HEALTH_PORT=str(port))

    told: Any = eventually(
        lambda: (pages.get("/health")[1].get("schedule") or {}).get("entries"), "/health tells of entries"
    )
    report, cleanup = told["daily_report"]["next"], told["cleanup"]["next"]
    assert datetime.fromtimestamp(report, get_default_timezone()).time() == clock(hour=5)
    assert began < report <= time.time() + LONGEST_DAY
    assert cleanup % HOUR == 0
    assert began < cleanup <= time.time() + HOUR
    eventually(lambda: store.broker.standings().keys() == {"daily_report", "cleanup"}, "the store knows the entries")
    assert worker.log_lines("ERROR") == []


def test_a_periodic_task_runs_each_time_it_is_due(make_project, start):
    project = make_project(printed.PERIODIC_TASKS + SOON)
    began = time.time()
    worker = start(project, printed.WITH_SCHEDULER)

    eventually(lambda: project.diary.count("cleanup") >= 2, "it has run twice")
    worker.send(signal.SIGTERM)
    assert worker.exit_code() == 0
    assert project.diary.count("cleanup") <= time.time() - began + 1


# Batch Processing -----------------------------------------------------------------------------------------------------


@pytest.fixture
def widgets(store, create_table):
    """Give a function that makes twenty widgets for a project, and returns them."""

    def make(project):
        model = project.models.Widget
        create_table(model, store.alias)
        model.objects.using(store.alias).bulk_create(model(id=number) for number in range(20))
        return model.objects.using(store.alias).order_by("id")

    return make


def test_batches_as_printed_are_one_call_for_each_function(make_project, store, widgets, start):
    project = make_project(printed.BATCH_QUEUE)
    rows = widgets(project)
    worker = start(project, "python manage.py runworker")
    began = time.monotonic()
    with override_settings(VTASKS_BATCH_QUEUES=project.run(printed.BATCH_QUEUE).VTASKS_BATCH_QUEUES):
        for task in (project.tasks.process_widgets_batch, project.tasks.paint_widgets_batch):
            project.run(printed.ENQUEUE_TO_BATCH_QUEUE, process_widgets_batch=task)

    worker.until_it_says("Processed 10 widgets")
    assert time.monotonic() - began >= BATCH_TIMEOUT
    eventually(lambda: project.diary == ["painted 10 widgets"], "the other function has run")
    assert [row.id for row in rows if row.processed] == list(range(10))
    assert worker.log.count("Processed") == 1
    assert store.broker.failed(10) == []
    assert "batch_queue (batch)" in worker.actors()


# Metrics & Observability ----------------------------------------------------------------------------------------------

PORT = "9100"


def test_the_extra_of_metrics_is_there():
    assert printed.METRICS_EXTRA.strip() == 'pip install "django-vtasks[metrics]"'

    assert "metrics" in (metadata("django-vtasks").get_all("Provides-Extra") or [])


def test_a_worker_serves_the_metrics_that_are_printed(project, store, start):
    project.tasks.hold.enqueue()
    port = servers.free_port()
    start(project, printed.WITH_METRICS.replace(PORT, str(port)))

    families = eventually(lambda: _all_printed(port), "all metrics are there")
    for name, (kind, labels) in _printed_metrics().items():
        family = families[name]
        assert family.type == kind, name
        assert all(labels == set(sample.labels) - {"le"} for sample in family.samples), name
    assert {"queue": "emails"} in [sample.labels for sample in families["vtasks_queue_depth"].samples]
    eventually(lambda: _active(_families(port)) == {"default": 1}, "one task is told to run")


def test_an_embedded_worker_s_are_on_the_application_s_endpoint(make_project, until_the_end):
    project = make_project(WITH_DJANGO_PROMETHEUS + "VTASKS_LEASE = 1.5\n")
    project.tasks.hold.enqueue()
    server = until_the_end(project.serve(EMBEDDED, port := servers.free_port()))
    server.until_it_says("running on http")

    families = eventually(lambda: _all_printed(port), "all metrics are there")
    assert {name: families[name].type for name in _printed_metrics()} == {
        name: kind for name, (kind, _) in _printed_metrics().items()
    }
    eventually(lambda: _active(_families(port)) == {"default": 1}, "one task is told to run")
    assert any(name.startswith("django_") for name in families), "the application's own are beside them"


def _all_printed(port):
    """Return the families on a page, once all that are printed are there."""
    families = _families(port)
    return families if families.keys() >= _printed_metrics().keys() else None


def _families(port):
    """Return the families on the worker's page by name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return {family.name: family for family in text_string_to_metric_families(answer.read().decode())}


def _active(families):
    """Return how many tasks run in each queue where any does."""
    samples = families["vtasks_active_tasks"].samples
    return {sample.labels["queue"]: sample.value for sample in samples if sample.value}


def _printed_metrics():
    """Return the type and the labels of each metric in the table, by the name of its family."""
    rows = [
        [cell.strip(" `") for cell in row.strip("|").split("|")] for row in printed.AVAILABLE_METRICS.split("\n")[3:-1]
    ]
    return {
        f"vtasks_{name.removesuffix('_total')}": (kind.lower(), {label.strip(" `") for label in labels.split(",")})
        for name, kind, labels, _ in rows
    }


# Queue Management -----------------------------------------------------------------------------------------------------


@pytest.fixture
def full(project, store):
    """Put two tasks into one queue, one into another, and one on the failed list."""
    project.tasks.fail.enqueue()
    project.manage("runworker", "--burst")
    project.tasks.remind.enqueue(1)
    project.tasks.remind.enqueue(2)
    project.tasks.remind.using(queue_name="emails").enqueue(3)
    assert (len(store.rows()), store.broker.failed_count()) == (3, 1)


@pytest.mark.usefixtures("full")
def test_clearing_a_queue_asks_first(project, store):
    assert "[y/N]" in project.answer(printed.CLEAR_A_QUEUE, "no")
    assert len(store.rows()) == 3
    assert "Deleted 2 tasks of queue default." in project.answer(printed.CLEAR_A_QUEUE, "y")
    assert [row.queue for row in store.rows()] == ["emails"]
    assert store.broker.failed_count() == 1


@pytest.mark.usefixtures("full")
def test_clearing_all_queues(project, store):
    project.command(printed.CLEAR_ALL_QUEUES)

    assert (store.rows(), store.broker.failed_count()) == ([], 1)


@pytest.mark.usefixtures("full")
def test_clearing_failed_tasks(project, store):
    project.command(printed.CLEAR_FAILED)

    assert (len(store.rows()), store.broker.failed_count()) == (3, 0)


# Testing --------------------------------------------------------------------------------------------------------------


def passes(test_case):
    """Run a TestCase as a test runner does."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(test_case).run(result)
    assert result.testsRun == 1
    assert not result.errors + result.failures, result
    return True


def test_testing(project, store):
    test_case = project.run(printed.TESTING, __name__="myapp.tests", my_task=project.tasks.my_task).MyTaskTests

    assert passes(test_case)
    assert project.tasks.ran == ["my_task"]
    assert store.rows() == []


def test_testing_batch_tasks(project, store):
    names = {"my_task": project.tasks.my_task, "process_batch": project.tasks.process_batch}

    test_case = project.run(
        printed.TESTING + printed.TESTING_BATCHES, __name__="myapp.tests", task_backends=task_backends, **names
    ).MyBatchingTest

    assert passes(test_case)
    assert passes(test_case)
    assert project.tasks.ran == [[0, 1, 2, 3, 4]] * 2
    assert store.rows() == []
