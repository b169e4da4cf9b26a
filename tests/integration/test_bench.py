import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

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
        assert {"versions", "commit", "seed", "machine", "time"} <= line.keys()
    page = load_tests("report", str(results), f"--out={tmp_path}").splitlines()[-1]
    assert "noop_sync on sqlite" in Path(page).read_text()


def test_a_contender_that_there_is_not_is_said_before_anything_is_measured():
    done = run("bench", "--contender=sidekiq")
    assert done.returncode == 1
    assert "There is no sidekiq" in done.stderr


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
