"""What trouble in one queue may cost another."""

import pytest

from load_tests.chaos import neighbours
from load_tests.chaos.ledger import Event
from load_tests.chaos.observations import Observations
from load_tests.chaos.scenario import SCENARIOS

FEEDER, WORKER = 1, 2
SINCE, UNTIL = 10.0, 20.0
USUAL = 20.0 * 10 / 9


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """Give a function that returns the problems of a run in which these calls waited so long, some for ever."""
    from load_tests.chaos import command  # noqa: F401 - whose imports fill SCENARIOS
    from load_tests.chaos.ground import Ground

    def judge(what, before, meanwhile):
        run = Observations(SCENARIOS["herd"], Ground(tmp_path), tmp_path)
        run.usual_of["other"] = USUAL
        events = [*_calls("before", 0.0, before), *_calls("meanwhile", SINCE, meanwhile)]
        monkeypatch.setattr(run.ledger, "events", lambda: sorted(events, key=lambda event: event.at))
        what(run, "other", SINCE, UNTIL)
        return run.problems

    return judge


def _calls(name, since, waits):
    for number, wait in enumerate(waits):
        key, at = f"{name}{number}", since + number / 100
        yield Event("accept", key, at, FEEDER, f"id-{key}", "other 0")
        if wait is not None:
            yield Event("start", key, at + wait, WORKER)
            yield Event("end", key, at + wait, WORKER)


def test_a_queue_that_ends_nine_tenths_of_what_it_is_asked_keeps_its_rate(judged):
    assert judged(neighbours.judge_rate, [], [0.1] * 90 + [None] * 10) == []


def test_a_queue_that_ends_less_is_a_problem(judged):
    assert judged(neighbours.judge_rate, [], [0.1] * 89 + [None] * 11) == ["queue other ended 89 of 100 meanwhile"]


def test_a_queue_of_which_nothing_is_asked_shows_nothing(judged):
    assert judged(neighbours.judge_rate, [0.1], []) == [
        "queue other took in 0 meanwhile, and 100 at least were to be",
        "queue other ended 0 of 0 meanwhile",
    ]


def test_a_queue_whose_producer_is_held_up_is_a_problem_although_it_ends_all_that_comes(judged):
    assert judged(neighbours.judge_rate, [], [0.1] * 99) == [
        "queue other took in 99 meanwhile, and 100 at least were to be"
    ]


def test_waits_that_are_hardly_longer_are_none(judged):
    assert judged(neighbours.judge_waits, [0.05] * 100, [0.05] * 98 + [0.19] * 2) == []


def test_waits_that_are_longer_are_a_problem(judged):
    [problem] = judged(neighbours.judge_waits, [0.05] * 100, [0.05] * 98 + [0.21] * 2)

    assert problem == "others wait 0.21 s at the 99th percentile, 0.05 before"


def test_that_nothing_waited_in_one_of_the_times_shows_nothing(judged):
    [problem] = judged(neighbours.judge_waits, [], [0.05])

    assert problem == "nothing was enqueued to other in one of the times"
