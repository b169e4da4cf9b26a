"""Counting in one process: by labels, without a lock, up to a number of names."""

import subprocess
import sys
import threading

import pytest

from django_vtasks.metrics import tally
from django_vtasks.metrics.catalogue import CATALOGUE, COUNTER, DURATION, GAUGE, HISTOGRAM, SUBMITTED
from django_vtasks.metrics.tally import MOST, OTHER, Cells, Count, Distribution


@pytest.fixture
def cells():
    return Cells(SUBMITTED, Count)


def test_a_cell_is_made_when_it_is_asked_for_and_then_kept(cells):
    cells["shop.tasks.sell", "default"].value += 2
    cells["shop.tasks.sell", "default"].value += 1
    cells["shop.tasks.sell", "emails"].value += 1

    assert {labels: cell.read() for labels, cell in cells.items()} == {
        ("shop.tasks.sell", "default"): 3,
        ("shop.tasks.sell", "emails"): 1,
    }


def test_names_beyond_the_limit_share_one(cells):
    for number in range(MOST + 50):
        cells[f"shop.tasks.made_{number}", "default"].value += 1

    assert len(cells) == MOST + 1
    assert cells[OTHER, OTHER].value == 50
    assert sum(cell.value for cell in cells.values()) == MOST + 50


def test_beyond_the_limit_the_status_is_still_told():
    for cells in (tally.processed, tally.durations, tally.runs):
        cells.clear()
    for number in range(MOST + 3):
        tally.runs[f"shop.tasks.limited_{number}", "limited"].failure.value += 1
    try:
        assert tally.processed[OTHER, OTHER, tally.FAILURE].value == 3
        assert len(tally.runs) <= MOST
    finally:
        for cells in (tally.processed, tally.durations, tally.runs):
            cells.clear()


@pytest.mark.parametrize(("value", "bucket"), [(0.0, 0), (0.5, 0), (1.0, 0), (1.1, 1), (10.0, 1), (10.1, 2), (1e9, 2)])
def test_a_bound_belongs_to_its_bucket(value, bucket):
    distribution = Distribution((1.0, 10.0))
    distribution.observe(value)

    assert distribution.read() == (*(int(place == bucket) for place in range(3)), value)


def test_no_count_of_many_threads_is_lost(cells):
    """Fails when the interpreter ever gives another thread its turn between reading and writing a number."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=_count, args=(cells, 20_000)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)

    assert {cell.value for cell in cells.values()} == {8 * 20_000}


def _count(cells, times):
    for _ in range(times):
        cells["shop.tasks.sell", "default"].value += 1


def test_what_is_reset_begins_anew_for_whoever_keeps_a_cell():
    kept = tally.submitted["shop.tasks.kept", "default"]
    kept.value += 5
    tally.reset()
    kept.value += 1

    assert tally.values()[SUBMITTED.name, ("shop.tasks.kept", "default")] == 1


def test_a_forked_process_begins_with_nothing():
    """As the workers of a web server that has loaded the project first, and actors."""
    program = """
import os
from django_vtasks.metrics import tally
tally.submitted["shop.tasks.sell", "default"].value += 5
if (child := os.fork()) == 0:
    tally.submitted["shop.tasks.sell", "default"].value += 1
os.write(1, f"{sorted(tally.values().values())}\\n".encode())  # at once: both write to the same pipe
if child:
    os.waitpid(child, 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)

    assert sorted(done.stdout.splitlines()) == ["[1]", "[5]"]


def test_families_are_in_prometheus_s_style():
    assert len({family.name for family in CATALOGUE}) == len(CATALOGUE)
    for family in CATALOGUE:
        assert family.kind in {COUNTER, GAUGE, HISTOGRAM}
        assert family.name.startswith("vtasks_")
        assert not family.name.endswith("_total")
        assert family.help.endswith(".")
        assert bool(family.buckets) == (family.kind == HISTOGRAM)
        assert list(family.buckets) == sorted(family.buckets)
        assert not {"pid", "task_id", "node", "error"} & set(family.labels)


def test_the_series_of_the_guide_have_their_labels():
    by_name = {family.name: family.labels for family in CATALOGUE}

    assert by_name["vtasks_tasks_submitted"] == ("task_name", "queue")
    assert by_name["vtasks_tasks_processed"] == ("task_name", "queue", "status")
    assert by_name[DURATION.name] == ("task_name", "queue")
    assert by_name["vtasks_active_tasks"] == by_name["vtasks_queue_depth"] == ("queue",)
