import pytest

from load_tests.bench import catalogue
from load_tests.bench.results import OWN
from load_tests.report import goals
from load_tests.report.summary import Summary
from tests.unit.load_tests.lines import both, line


@pytest.mark.parametrize(
    ("lines", "met"),
    [
        (both([100, 100, 10], [10, 10, 10]), True),
        (both([99, 99, 1000], [10, 10, 10]), False),
        (both([0.6], [1.0], scenario="latency", figure="p50 ms"), True),
        (both([0.7], [1.0], scenario="latency", figure="p50 ms"), False),
        ([line(4.0, backend="postgres", scenario="latency", figure="p50 ms")], True),
        ([line(4.1, backend="postgres", scenario="latency", figure="p50 ms")], False),
        (both([8700], [8000], scenario="sleep"), True),
        (both([8699], [8000], scenario="sleep"), False),
        ([line(None, scenario="restart", figure="ms to run again")], False),
        ([line(100)], None),
    ],
    ids=[
        "10×",
        "9.9×",
        "0.6×",
        "0.7×",
        "4 ms",
        "4.1 ms",
        "87 % of the ceiling",
        "less",
        "never",
        "nothing to compare with",
    ],
)
def test_a_goal_is_met_by_the_median(lines, met):
    (verdict,) = goals.judge(Summary(lines))
    assert verdict.is_met is met


def test_how_many_tasks_waited_stands_beside_what_a_claim_costs_with_so_many():
    found = line(1.1, scenario="backlog", figure="cost ratio")
    found.figures["waiting"] = 250_000
    (verdict,) = goals.judge(Summary([found]))
    assert verdict.row()[2] == "cost ratio with 250,000 waiting"


def test_what_this_package_is_measured_by_alone_is_no_repetition_of_what_all_are_measured_by():
    lines = [
        line(90, scenario="own-restart", figure="ms to run again"),
        line(60, scenario="restart", figure="ms to run again"),
    ]
    (verdict,) = goals.judge(Summary(lines))
    assert verdict.ours.values == (60,)


def test_a_goal_without_a_figure_is_not_judged():
    assert not list(goals.judge(Summary(both([1], [1], scenario="payload"))))


def test_every_goal_is_of_a_scenario_that_there_is():
    from load_tests import own

    known = {*catalogue.scenarios(), *(OWN + name for name in own.SCENARIOS)}
    assert {goal.key.scenario for goal in goals.GOALS} <= known
