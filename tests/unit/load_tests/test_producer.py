import os
import sys
from pathlib import Path

import pytest

from load_tests.bench import environment
from load_tests.bench.producer import Producer, ProducerError

SLOW_AT_FIRST = """
import asyncio, time

def enqueue(task, args):
    global pause
    time.sleep(pause)
    pause = 0.005

async def aenqueue(task, args):
    enqueue(task, args)

def enqueue_many(task, calls):
    enqueue(task, calls)

pause = 0.5
"""
SILENT = "import sys\nfor line in sys.stdin: print('still here', file=sys.stderr, flush=True)"


def test_a_producer_that_does_not_answer_is_killed_and_its_last_words_are_told(tmp_path):
    with producer(tmp_path, SILENT, patience=1.0) as silent:
        with pytest.raises(ProducerError, match=r"No answer to fill within 1.1 s.\nstill here"):
            silent.ask("fill", seconds=0.1)
        with pytest.raises(ProducerError):
            silent.ask("fill")


def test_a_producer_that_ends_early_is_not_said_to_be_silent(tmp_path):
    with producer(tmp_path, "raise SystemExit('no such queue')") as ended, pytest.raises(ProducerError) as caught:
        ended.ask("prepare")
    assert str(caught.value) == "no such queue"


@pytest.mark.parametrize(("do", "least"), [("one", 20), ("one_async", 20), ("bulk", 20_000)])
def test_the_call_that_connects_is_no_part_of_a_rate(tmp_path, do, least):
    (tmp_path / "slow_at_first.py").write_text(SLOW_AT_FIRST)
    environ = {"BENCH_MODULE": "slow_at_first", "BENCH_SEED": "1"}
    with producer(tmp_path, (environment.INSIDE / "produce.py").read_text(), environ) as asked:
        answer = asked.ask(do, task="noop", first=5, seconds=0.3)
    assert answer["rate"] > least  # of 200 calls a second, and 2 while it connects


@pytest.mark.parametrize(
    ("module", "left"),
    [("async def give_back(queue): open('given-back', 'w').write(queue)", "batches"), ("", None)],
    ids=["by its module", "by its workers themselves"],
)
def test_what_workers_have_left_is_given_back(tmp_path, module, left):
    (tmp_path / "contender.py").write_text(module)
    environ = {"BENCH_MODULE": "contender", "BENCH_SEED": "1"}
    with producer(tmp_path, (environment.INSIDE / "produce.py").read_text(), environ) as asked:
        asked.ask("give_back", queue="batches")
    written = tmp_path / "given-back"
    assert (written.read_text() if written.exists() else None) == left


def producer(directory, script, environ=None, **options):
    (directory / "produce.py").write_text(script)
    values = os.environ | {"PYTHONPATH": str(directory)} | (environ or {})
    return Producer(Path(sys.executable), values, directory, **options)
