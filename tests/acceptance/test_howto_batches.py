"""docs/howto/batches.md: its code runs as printed."""

import re
import unittest
from pathlib import Path
from typing import Any

import pytest
from django.tasks import task_backends
from django.test import override_settings

from tests.acceptance.guide import Project, forget
from tests.integration.probes import eventually

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "batches.md"
MODELS = """
from django.db import models

class Widget(models.Model):
    processed = models.BooleanField(default=False)
    price = models.IntegerField(default=1)

    class Meta:
        app_label = "myapp"
"""


def blocks(first_line=""):
    """Return the page's code whose first line is this."""
    return [
        block
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        if block.startswith(first_line)
    ]


@pytest.fixture
def project(database, tmp_path, monkeypatch, create_table):
    database("default")
    [settings, tasks] = ["".join(blocks(line)) for line in ("# settings.py", "# myapp/tasks.py")]
    monkeypatch.syspath_prepend(tmp_path)
    project = Project(tmp_path, tasks=tasks, models=MODELS, settings=settings)
    with override_settings(VTASKS_BATCH_QUEUES=project.run(settings).VTASKS_BATCH_QUEUES):
        widget = project.models.Widget
        create_table(widget, "default")
        widget.objects.bulk_create(widget(id=number) for number in range(1, 5))
        yield project
    forget()


def test_members_are_done_or_fail_as_the_functions_say(project):
    [enqueue] = blocks("process_widgets.enqueue")
    [typed] = blocks("from typing")
    for block in (enqueue, typed):
        project.run(block, process_widgets=project.tasks.process_widgets)
    for number, price in ((2, 250), (3, -1)):
        project.tasks.set_prices.enqueue(number, price)
    for to in ("me", ""):
        project.tasks.send_widgets.enqueue(to=to)

    said = project.manage("runworker", "--burst")

    rows = project.models.Widget.objects.order_by("id").values_list("id", "processed", "price")
    assert list(rows) == [(1, True, 1), (2, False, 250), (3, False, 1), (4, False, 1)]
    backend: Any = task_backends["default"]
    assert sorted(entry.failure.message for entry in backend.broker.failed(10)) == [
        "-1 is no price",
        "nobody is there",
    ], said


def test_a_queue_of_two_processes_is_configured_in_one_place(project, start):
    [settings] = blocks("VTASKS_QUEUES")
    project.configure(settings)
    worker = start(project, "python manage.py runworker")

    actors = {"default#1", "widgets (batch)#1", "widgets (batch)#2"}
    eventually(lambda: worker.actors().keys() == actors, "each queue has its actors")


def test_the_test_of_the_page_passes(project):
    [tests] = blocks("# myapp/tests.py")
    case = project.run(tests, __name__="myapp.tests").PriceTests
    result = unittest.TestResult()

    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)

    assert result.testsRun == 1
    assert not result.errors + result.failures, result
