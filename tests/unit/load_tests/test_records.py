import os
import subprocess
import sys

import pytest

from load_tests.bench import environment, records
from load_tests.bench.bout import Costs, Sample, costs
from load_tests.bench.records import Exactness, Run


def test_what_a_recorder_notes_is_read_in_the_order_of_time(tmp_path):
    script = "from recorder import record\nfor number in (3, 1, 2): record(number)"
    run_inside(script, tmp_path)
    runs = records.read(tmp_path)
    assert [run.number for run in runs] == [3, 1, 2]
    assert runs == sorted(runs, key=lambda run: run.at)
    assert records.written(tmp_path) == 3


def test_a_forked_process_writes_its_own_file_and_nothing_of_its_parent(tmp_path):
    script = (
        "import os, recorder\n"
        "recorder.record(1)\n"
        "if not (child := os.fork()):\n"
        "    recorder.record(2); recorder.flush(); os._exit(0)\n"
        "os.waitpid(child, 0)"
    )
    run_inside(script, tmp_path)
    runs = records.read(tmp_path)
    assert sorted(run.number for run in runs) == [1, 2]
    assert len({run.pid for run in runs}) == 2


def test_nothing_noted_while_the_recorder_writes_is_lost(tmp_path):
    script = (
        "import recorder, threading\n"
        "def some(first):\n"
        "    for number in range(first, first + 20_000): recorder.record(number)\n"
        "threads = [threading.Thread(target=some, args=(20_000 * n,)) for n in range(4)]\n"
        "for thread in threads: thread.start()\n"
        "while any(thread.is_alive() for thread in threads): recorder.flush()\n"
    )
    run_inside(script, tmp_path)
    assert records.exactness(records.read(tmp_path), range(80_000)) == Exactness(0, 0)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([0, 1, 2], Exactness(0, 0)),
        ([0, 2], Exactness(1, 0)),
        ([0, 1, 1, 1, 2], Exactness(0, 2)),
        ([0, 1, 2, 7], Exactness(0, 1)),
    ],
)
def test_a_task_counts_as_missing_or_as_run_too_often(numbers, expected):
    found = records.exactness([Run(number, 0.0, 1) for number in numbers], range(3))
    assert found == expected


def test_a_rate_is_from_the_first_task_to_the_last():
    assert records.rate([Run(n, 10 + n / 4, 1) for n in range(5)]) == 4.0


def test_a_rate_takes_two_tasks():
    with pytest.raises(ValueError, match="two runs"):
        records.rate([Run(0, 0.0, 1)])


def test_a_wait_is_from_before_the_enqueue_to_the_start():
    runs = [Run(11, 2.0, 1), Run(10, 1.5, 1), Run(3, 9.0, 1)]
    assert records.waits(runs, first=10, sent=[1.0, 1.75]) == [250.0, 500.0]


def test_costs_are_what_a_task_took_of_workers_and_server_and_what_others_took_of_the_machine():
    before = Sample(begun=100, worker_cpu=1.0, server_cpu=0.5, machine_cpu=10.0, at=50.0)
    after = Sample(begun=1100, worker_cpu=1.5, server_cpu=0.75, machine_cpu=12.75, at=52.0)
    assert costs(before, after) == Costs(worker=0.5, server=0.25, foreign=1.0)


def test_an_idle_worker_without_a_server_costs_nothing_for_a_task():
    before = Sample(begun=1, worker_cpu=1.0, server_cpu=None, machine_cpu=1.0, at=1.0)
    assert costs(before, before._replace(at=3.0)) == Costs(worker=None, server=None, foreign=0.0)


def test_what_was_over_at_once_has_no_costs():
    before = Sample(begun=1, worker_cpu=1.0, server_cpu=1.0, machine_cpu=1.0, at=1.0)
    assert costs(before, before._replace(begun=9, at=1.1)) == Costs()


def run_inside(script, directory):
    environ = os.environ | {"PYTHONPATH": str(environment.INSIDE), "BENCH_RECORDS": str(directory)}
    subprocess.run([sys.executable, "-c", script], env=environ, check=True, timeout=30)
