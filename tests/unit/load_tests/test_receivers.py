"""Who is compared in a goal is measured with receivers of signals, too, whichever it sends."""

import json
import os
import subprocess
import sys

import pytest

from load_tests.bench import environment
from load_tests.stage import entry_of_sqlite

OF_DJANGO = "from django.tasks.signals import task_finished, task_started"
OF_320 = """
from django.dispatch import Signal
from django_vtasks import signals

task_started, task_finished = signals.task_started, signals.task_finished = Signal(), Signal()
"""
SEND = """
import django

django.setup()
from on_vtasks.receivers import seen

for _ in range(3):
    task_started.send_robust(None, task_result=None)
task_finished.send_robust(None, task_result=None)
print(seen[task_started], seen[task_finished])
"""


@pytest.mark.parametrize(("kind", "seen"), [("plain", ["6", "2"]), ("awaited", ["6", "2"]), ("", ["0", "0"])])
@pytest.mark.parametrize("signals", [OF_DJANGO, OF_320], ids=["of Django", "of 3.2.0"])
def test_each_signal_of_a_run_has_two_receivers_of_the_kind_that_is_asked_for(signals, kind, seen, tmp_path):
    environ = {
        "BENCH_RECEIVERS": kind,
        "DJANGO_SETTINGS_MODULE": "on_vtasks.settings",
        "BENCH_MODULE": "on_vtasks",
        "BENCH_DJANGO_DATABASE": json.dumps(entry_of_sqlite(tmp_path)),
        "PYTHONPATH": str(environment.INSIDE),
    }
    command = [sys.executable, "-c", signals + SEND]
    done = subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == seen, done.stderr
