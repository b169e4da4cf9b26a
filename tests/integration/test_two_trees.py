"""Two versions of this package's code on one store, as while one is rolled out."""

import json
import os
import signal
import subprocess
import sys

import pytest

from django_vtasks.brokers.base import Retrial
from tests.integration.probes import eventually
from tests.integration.trees import Change, plant
from tests.integration.workers import ROOT

ENQUEUE = """
import django
django.setup()
from tests.workapp import tasks
for key, task in (("small", tasks.note), ("large", tasks.note), ("sole", tasks.note.using(unique=True))):
    print(task.enqueue(key, "x" * 5000).id if key == "large" else task.enqueue(key).id)
"""
LATER_FORMAT = Change("django_vtasks/envelope.py", 'tag_field="v", tag=1', 'tag_field="v", tag=2')
STORES = pytest.mark.parametrize(
    "alias", ["default", "postgres", "valkey"], indirect=True, ids=["sqlite", "postgresql", "valkey"]
)


@pytest.fixture
def python(stage):
    """Give a function that runs Python with a tree of code, and returns its output."""

    def run(tree, *command):
        environment = os.environ | stage.environment | tree
        return subprocess.check_output([sys.executable, *command], cwd=ROOT, env=environment, text=True, timeout=60)

    return run


@STORES
def test_a_format_that_a_worker_does_not_know_is_kept_for_those_that_do(stage, python, tmp_path):
    later = {"PYTHONPATH": plant(tmp_path / "later", LATER_FORMAT)}
    old = stage.worker()

    sent = set(python(later, "-c", ENQUEUE).split())
    eventually(lambda: stage.broker.failed_count() == 3, "the old worker has put all aside")

    failed = stage.broker.failed(10)
    assert {entry.id for entry in failed} == sent
    assert {entry.failure.exception for entry in failed} == {"django_vtasks.errors.PayloadError"}
    assert all("has version 2, and this release of django-vtasks knows version 1" in e.failure.message for e in failed)
    assert set(stage.broker.retry_failed(sent).values()) == {Retrial.UNREADABLE}

    old.send(signal.SIGTERM)
    assert old.exit_code() == 0
    stage.worker(**later)
    outcomes = json.loads(python(later, "-m", "django", "vtasks", "failed", "retry", "--all", "--json"))
    assert {each["id"]: each["outcome"] for each in outcomes} == dict.fromkeys(sent, "retried")
    stage.ledger.wait_for("small", "large", "sole")
    stage.until_empty()
    assert stage.ledger.counts() == {"small": 1, "large": 1, "sole": 1}
    assert stage.broker.failed_count() == 0
    assert stage.store.locks() == 0
