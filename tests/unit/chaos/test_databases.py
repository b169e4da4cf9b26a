"""What is held of tasks beside a database that others use."""

import json

import pytest

from load_tests.chaos.databases import _judge_waits
from load_tests.chaos.ground import Ground
from load_tests.chaos.run import Run
from load_tests.chaos.scenario import Scenario

BEGAN, UNTIL = 10.0, 30.0


@pytest.fixture
def judged(tmp_path):
    """Give a function that judges calls which wait so long before a time and in it, and returns the problems."""
    scenario = Scenario(name="any", faults=(), sentence="Any.", inject=lambda _run: None, bites=())
    run = Run(scenario, Ground(tmp_path), tmp_path, seed=7, seconds=1.0)

    def judge(before, beside):
        events = []
        for number in range(30):
            wait = beside if number >= BEGAN else before
            events.append(["accept", f"t{number}", number, 1, f"id-t{number}", "default 0"])
            events += [["start", f"t{number}", number + wait, 2]] if wait is not None else []
        (run.ledger.directory / "1.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
        _judge_waits(run, BEGAN, UNTIL, "a reader")
        return run.problems

    return judge


def test_tasks_that_wait_hardly_longer_are_no_problem(judged):
    assert judged(before=0.1, beside=1.0) == []


def test_tasks_that_crawl_are_one(judged):
    assert judged(before=0.1, beside=2.0) == ["tasks wait 2.00 s beside a reader, 0.10 s before"]


def test_tasks_that_do_not_begin_at_all_are_one(judged):
    assert judged(before=0.1, beside=None) == ["tasks wait 5.00 s beside a reader, 0.10 s before"]
