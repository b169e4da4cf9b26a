"""The harness that puts workers under faults, from its command line to its verdict."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from tests.integration.probes import eventually
from tests.integration.workers import ROOT


@pytest.fixture
def chaos(tmp_path):
    """Give a function that runs a scenario and returns the exit code and the report."""

    def run(*options):
        out = tmp_path / "report.jsonl"
        command = [sys.executable, "-m", "load_tests", "chaos", "--backend", "sqlite", "--out", str(out), *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
        assert out.exists(), done.stderr
        return done.returncode, json.loads(out.read_text())

    return run


def test_actors_are_killed_at_work_and_nothing_is_lost(chaos):
    _, report = chaos("--scenario", "kill-actor", "--seed", "5", "--seconds", "5")

    # How long recoveries take beside other tests says nothing: script/chaos looks at that alone.
    assert [problem for problem in report["problems"] if "later than" not in problem] == []
    assert report["seed"] == 5
    assert report["kills"] > 0
    assert report["bites"]["running tasks killed"] > 0
    assert report["accepted"] == report["finished"] > 100
    assert report["reruns"] >= report["bites"]["running tasks killed"]
    assert report["recovery_max"] is not None


def test_a_fault_that_meets_nobody_is_no_success(chaos):
    code, report = chaos("--scenario", "kill-actor", "--seconds", "0.01")

    assert (code, report["verdict"]) == (1, "VACUOUS")
    assert report["problems"] == []


@pytest.fixture
def place():
    """Return a directory that servers which run as another user may enter."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_whoever_ends_it_early_finds_nothing_left_of_it(place, number):
    environment = os.environ | {"TMPDIR": str(place)}
    command = [sys.executable, "-m", "load_tests", "chaos", "--scenario", "kill-actor", "--backend", "postgres"]
    command += ["--scenario", "kill-all-actors"]  # two, so that there is a process for each
    run = psutil.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    eventually(lambda: "runworker" in _commands(run), "there is a worker", 60.0)
    started = run.children(recursive=True)

    if number == signal.SIGINT:
        os.killpg(run.pid, number)  # as a terminal does
    else:
        run.send_signal(number)

    assert run.wait(60.0) == 128 + number
    _, left = psutil.wait_procs(started, 10.0)
    assert left == []
    assert list(place.iterdir()) == []


def _commands(run):
    """Return the command lines of all that a run has started."""
    found = []
    for process in run.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += process.cmdline()
    return found


@pytest.mark.parametrize(
    ("way", "found"),
    [
        ("Honest outage", []),
        ("RunsTwice outage", ["run again for no reason: ", "ended twice: "]),
        ("RunsTwiceInSilence outage", ["run again for no reason: "]),
        ("Honest", []),
        ("Loses", ["lost: "]),
        ("RunsTwice", ["run again for no reason: ", "ended twice: "]),
        ("TellsNobody", ["ended, and no store was told: "]),
        ("Refuses", ["refused for no reason: "]),
        ("Refuses outage", []),
        ("Crowds", ["tasks at once in a process that may run 8"]),
        ("KeepsLease", ["leases are left: ", "something is left in vtasks_node"]),
    ],
)
def test_a_store_that_breaks_a_promise_is_found_out(tmp_path, way, found):
    way, *outage = way.split()
    out = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.integration.breaking", way, str(out), *outage]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert out.exists(), done.stderr
    report = json.loads(out.read_text())

    assert report["accepted"] > 100
    assert report["verdict"] == ("FAIL" if found else "ok"), report["problems"]
    assert len(report["problems"]) == len(found), report["problems"]
    assert all(words in problem for problem, words in zip(report["problems"], found, strict=True))
