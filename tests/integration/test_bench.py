import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


def test_a_small_benchmark_of_this_checkout_ends_in_a_report(tmp_path):
    results = tmp_path / "results.jsonl"
    options = ["--contender=vtasks", "--backend=sqlite", "--scenario=noop", "--scenario=noop_sync", "--here"]
    load_tests("bench", *options, "--count=300", "--repeat=2", f"--out={results}")
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(line["scenario"], line["repetition"]) for line in lines] == [
        *(("noop", 0), ("noop", 1), ("noop_sync", 0), ("noop_sync", 1))
    ]
    for line in lines:
        assert (line["count"], line["missing"], line["doubled"]) == (300, 0, 0)
        assert line["figures"]["tasks/s"] > 0
        assert line["pss"] > 0
        assert {"versions", "commit", "seed", "machine", "server", "seconds", "time"} <= line.keys()
    page = load_tests("report", str(results), f"--out={tmp_path}").splitlines()[-1]
    assert "noop_sync on sqlite" in Path(page).read_text()


@pytest.mark.parametrize(
    "words",
    [
        ["--contender=vtasks", "--backend=sqlite", "--scenario=start", "--scenario=enqueue", "--here"],
        ["start", "--backend=sqlite"],
    ],
    ids=["beside others", "alone"],
)
def test_each_line_tells_how_many_cores_others_used(words, tmp_path):
    out = tmp_path / "deep" / "results.jsonl"
    load_tests("bench", *words, "--repeat=1", f"--out={out}")
    for line in out.read_text().splitlines():
        assert 0.0 <= json.loads(line)["foreign"] < os.cpu_count()


def test_the_help_says_where_results_go():
    said = " ".join(load_tests("bench", "--help").split())
    assert "append results to this file (default: .cache/bench/results.jsonl; own: none is written)" in said


def test_a_contender_that_there_is_not_is_said_before_anything_is_measured():
    done = run("bench", "--contender=sidekiq")
    assert done.returncode == 1
    assert "There is no sidekiq" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bench", "--repeat=0"], "'0' is not one at least"),
        (["bench", "--count=-3"], "'-3' is not one at least"),
        (["bench", "--seconds=0"], "'0' is no number above 0"),
        (["bench", "start", "--contender=rq", "--calm=0"], "--contender, --calm: for contenders side by side"),
        (["bench", "noop", "--backend=mysql"], "argument --backend/--database: invalid choice: 'mysql'"),
        (["bench", "--backend=nonsense"], "argument --backend/--database: invalid choice: 'nonsense'"),
        (["bench", "--durable"], "--durable: valkey is not made to wait"),
        (["bench", "noop", "--durable"], "--durable: sqlite is not made to wait"),
        (["bench", "--durable", "--backend=postgres", "--backend=sqlite"], "--durable: sqlite is not made to wait"),
        (["bench", "noop"], "metrics_cost; with --scenario, those that contenders are measured in."),
        (["report", "nowhere.jsonl"], "No such file or directory: 'nowhere.jsonl'"),
        (["report", "README.md"], "README.md, line 1, is no result"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_said_in_a_line(arguments, said):
    done = run(*arguments)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_benchmark_of_which_something_failed_says_so_with_its_exit_code(tmp_path):
    out = tmp_path / "results.jsonl"
    options = ["--contender=rq", "--backend=valkey", "--scenario=noop", "--here", f"--out={out}"]  # it is not installed
    done = run("bench", *options, "--count=10", "--repeat=1")
    assert done.returncode == 1
    assert "1 of 1 measurements failed or are invalid." in done.stderr
    assert "ModuleNotFoundError" in json.loads(out.read_text())["error"]


def test_a_benchmark_that_is_ended_leaves_no_process_behind(tmp_path):
    options = ["--contender=vtasks", "--backend=sqlite", "--scenario=idle", "--here", f"--out={tmp_path}/results"]
    command = [sys.executable, "-m", "load_tests", "bench", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as bench:
        process = psutil.Process(bench.pid)
        started: set[psutil.Process] = set()
        while not any("#1" in title for title in titles(started)):
            assert bench.poll() is None
            started |= set(process.children(recursive=True))
        bench.terminate()
        bench.wait(30)
    gone, left = psutil.wait_procs(started, timeout=10)
    assert gone
    assert not left


def titles(processes):
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            yield " ".join(process.cmdline())


def load_tests(*arguments):
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(*arguments):
    command = [sys.executable, "-m", "load_tests", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
