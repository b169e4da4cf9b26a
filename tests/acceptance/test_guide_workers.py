"""The guide's sections on periodic tasks and on batches: as printed, with real workers, on each kind of store."""

import signal
import time
from datetime import datetime
from datetime import time as clock
from typing import Any

import pytest
import valkey
from django.tasks import task_backends
from django.test import override_settings
from django.utils.timezone import get_default_timezone

from tests import servers
from tests.acceptance.guide import Project, forget
from tests.integration.pages import Pages
from tests.integration.probes import eventually
from tests.integration.stores import DATABASE, VALKEY

HOUR = 3600
LONGEST_DAY = 25 * HOUR

# What the guide prints ------------------------------------------------------------------------------------------------

PERIODIC_TASKS = """
# settings.py
from django_vtasks.scheduler import crontab

VTASKS_SCHEDULE = {
    "daily_report": {
        "task": "myapp.tasks.report",
        "schedule": crontab(hour=5, minute=0),  # Runs at 5:00 AM
    },
    "cleanup": {
        "task": "myapp.tasks.cleanup",
        "schedule": 3600,  # Runs every hour (in seconds)
    },
}
"""

WITH_SCHEDULER = "python manage.py runworker --scheduler"

BATCH_QUEUE = """
# settings.py
VTASKS_BATCH_QUEUES = {
    "batch_queue": {
        "count": 100,  # Max tasks to fetch at once
        "timeout": 5.0,  # Max seconds to wait for tasks
    }
}
"""

BATCH_TASK = '''
@task
def process_widgets_batch(tasks: list[dict]):
    """Processes a batch of widgets."""
    widget_ids = [task["kwargs"]["widget_id"] for task in tasks]
    Widget.objects.filter(id__in=widget_ids).update(processed=True)
    print(f"Processed {len(widget_ids)} widgets")
'''

ENQUEUE_TO_BATCH_QUEUE = """
for i in range(10):
    process_widgets_batch.using(queue_name="batch_queue").enqueue(widget_id=i)
"""

# What the guide takes for granted -------------------------------------------------------------------------------------

TIMEOUT = 5.0
SOON = """
VTASKS_SCHEDULE["cleanup"]["schedule"] = 1
"""

IMPORTS = """
from pathlib import Path

from django_vtasks import task
from myapp.models import Widget

DIARY = Path(__file__).with_name("diary")

def note(line):
    with DIARY.open("a") as diary:
        print(line, file=diary)
"""

OTHER_TASKS = """
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


@pytest.fixture(params=["default", "postgres", "valkey"], ids=["sqlite", "postgresql", "valkey"])
def store(request, database, monkeypatch):
    """Give the alias of the project's database; its tasks are there, or in a Valkey."""
    alias = database("default" if request.param == "valkey" else request.param)
    backend = {"BACKEND": DATABASE, "OPTIONS": {"DATABASE": alias}}
    if request.param == "valkey":
        url = request.getfixturevalue("valkey_server")
        with valkey.Valkey.from_url(url) as client:
            client.flushall()
        monkeypatch.setenv("TEST_TASKS_VALKEY", url)
        backend = {"BACKEND": VALKEY, "OPTIONS": {"BROKER_URL": url}}
    with override_settings(TASKS={"default": backend}):
        yield alias
        if request.param == "valkey":
            broker().close()


def broker() -> Any:
    backend: Any = task_backends["default"]
    return backend.broker


@pytest.fixture
def project(store, tmp_path, monkeypatch):
    """Give a function that makes a project with these settings."""
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda settings: Project(
        tmp_path, tasks=IMPORTS + BATCH_TASK + OTHER_TASKS, models=MODELS, settings=settings, alias=store
    )
    forget()


@pytest.fixture
def widgets(store, create_table):
    """Give a function that makes twenty widgets for a project, and returns them."""

    def make(project):
        model = project.models.Widget
        create_table(model, store)
        model.objects.using(store).bulk_create(model(id=number) for number in range(20))
        return model.objects.using(store).order_by("id")

    return make


# Periodic Tasks -------------------------------------------------------------------------------------------------------


def test_periodic_tasks_as_printed_are_due_at_their_times(project, start):
    project = project(PERIODIC_TASKS)
    assert "no issues" in project.manage("check")
    began, pages = time.time(), Pages(port := servers.free_port())
    worker = start(project, WITH_SCHEDULER, VTASKS_HEALTH_PORT=str(port))

    told: Any = eventually(
        lambda: (pages.get("/health")[1].get("schedule") or {}).get("entries"), "/health tells of entries"
    )
    report, cleanup = told["daily_report"]["next"], told["cleanup"]["next"]
    assert datetime.fromtimestamp(report, get_default_timezone()).time() == clock(hour=5)
    assert began < report <= time.time() + LONGEST_DAY
    assert cleanup % HOUR == 0
    assert began < cleanup <= time.time() + HOUR
    eventually(lambda: broker().standings().keys() == {"daily_report", "cleanup"}, "the store knows the entries")
    assert worker.log_lines("ERROR") == []


def test_a_periodic_task_runs_each_time_it_is_due(project, start):
    project = project(PERIODIC_TASKS + SOON)
    began = time.time()
    worker = start(project, WITH_SCHEDULER)

    eventually(lambda: project.diary.count("cleanup") >= 2, "it has run twice")
    worker.send(signal.SIGTERM)
    assert worker.exit_code() == 0
    assert project.diary.count("cleanup") <= time.time() - began + 1


# Batch Processing -----------------------------------------------------------------------------------------------------


def test_batches_as_printed_are_one_call_for_each_function(project, widgets, start):
    project = project(BATCH_QUEUE)
    rows = widgets(project)
    worker = start(project, "python manage.py runworker")
    began = time.monotonic()
    with override_settings(VTASKS_BATCH_QUEUES=project.run(BATCH_QUEUE).VTASKS_BATCH_QUEUES):
        for task in (project.tasks.process_widgets_batch, project.tasks.paint_widgets_batch):
            project.run(ENQUEUE_TO_BATCH_QUEUE, process_widgets_batch=task)

    worker.until_it_says("Processed 10 widgets")
    assert time.monotonic() - began >= TIMEOUT
    eventually(lambda: project.diary == ["painted 10 widgets"], "the other function has run")
    assert [row.id for row in rows if row.processed] == list(range(10))
    assert worker.log.count("Processed") == 1
    assert broker().failed(10) == []
    assert "batch_queue (batch)" in worker.actors()
