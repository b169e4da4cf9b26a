import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from load_tests.bench import machine
from load_tests.bench.workers import Workers
from tests.integration.probes import eventually

BURN = "import time\nwhile time.process_time() < 0.5: pass\n"


def test_a_machine_is_described_by_what_figures_depend_on():
    described = machine.describe()
    assert described.keys() == {"cpu", "cores", "kernel", "python"}
    assert all(described.values())


@pytest.mark.parametrize(("cores", "calm"), [(1000.0, True), (-1.0, False)])
def test_one_waits_for_a_calm_machine_no_longer_than_patience(cores, calm):
    assert machine.wait_until_calm(cores, patience=0.0, interval=0.001) is calm


def test_work_makes_a_machine_busy():
    before = machine.busy_seconds()
    while machine.busy_seconds() == before:
        pass
    assert machine.busy_seconds() > before


def test_what_a_process_has_started_is_its_own_also_when_it_has_ended():
    before = machine.our_seconds()
    subprocess.run([sys.executable, "-c", BURN], check=True, timeout=60)
    assert machine.our_seconds() - before > 0.45


def test_others_are_those_who_used_the_processors_and_are_not_ours(monkeypatch):
    busy, ours, now = iter([100.0, 106.0]), iter([10.0, 12.0]), iter([50.0, 54.0])
    monkeypatch.setattr(machine, "busy_seconds", lambda: next(busy))
    monkeypatch.setattr(machine, "our_seconds", lambda: next(ours))
    monkeypatch.setattr(machine, "time", SimpleNamespace(monotonic=lambda: next(now)))
    assert machine.Others().cores(orphaned=1.0) == (6.0 - 2.0 - 1.0) / 4.0


def test_the_time_of_workers_that_are_killed_with_their_parents_is_not_taken_for_that_of_others(tmp_path):
    parent = f"import os, time\nif not os.fork():\n    exec({BURN!r})\n    open('burnt', 'w')\ntime.sleep(60)\n"
    workers = Workers([[sys.executable, "-c", parent]], {"PATH": os.environ["PATH"]}, tmp_path)
    try:
        eventually((tmp_path / "burnt").exists, "a child has worked")
        before = machine.our_seconds()
    finally:
        workers.kill()
    assert machine.our_seconds() < before - 0.4
    assert machine.our_seconds() + workers.orphaned > before - 0.05
