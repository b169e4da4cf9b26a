import pytest

from load_tests.bench import catalogue
from load_tests.bench.contender import BASELINE
from load_tests.bench.results import OWN
from load_tests.bench.stores import BACKENDS
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
    (verdict,) = measured(lines)
    assert verdict.is_met is met


def measured(lines):
    """Return the verdicts on what there is a figure of."""
    return [verdict for verdict in goals.judge(Summary(lines)) if verdict.ours is not None]


def test_how_many_tasks_waited_stands_beside_what_a_claim_costs_with_so_many():
    found = line(1.1, scenario="backlog", figure="cost ratio")
    found.figures["waiting"] = 250_000
    (verdict,) = measured([found])
    assert verdict.row()[2] == "cost ratio with 250,000 waiting"


def test_what_this_package_is_measured_by_alone_is_no_repetition_of_what_all_are_measured_by():
    lines = [
        line(90, scenario="own-restart", figure="ms to run again"),
        line(60, scenario="restart", figure="ms to run again"),
    ]
    (verdict,) = measured(lines)
    assert verdict.ours.values == (60,)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ([{"missing": 1}], "**not met** (1 of 3 invalid)"),
        ([{"error": "gone"}, {"doubled": 2}], "**not met** (2 of 3 invalid)"),
        ([{"error": "gone"}] * 3, "**not met** (3 of 3 invalid)"),
        ([], "met"),
        ([{"missing": None}], "met"),
    ],
)
def test_a_goal_is_not_met_when_any_repetition_of_ours_is_invalid(broken, said):
    lines = both([100, 100, 100], [10, 10, 10])
    for number, values in enumerate(broken):
        lines[number] = line(100, repetition=number, **values)
    verdicts = [verdict for verdict in goals.judge(Summary(lines)) if verdict.goal.key.figure == "tasks/s"]
    assert [str(verdict) for verdict in verdicts if verdict.goal.key.scenario == "noop"] == [said]
    assert verdicts[0].row()[-1] == said
    assert verdicts[0].is_met is (said == "met")


def test_what_went_wrong_with_the_baseline_is_not_held_against_us():
    lines = both([100, 100], [10, 10])
    lines[2] = line(10, contender=BASELINE, missing=3)
    (verdict,) = measured(lines)
    assert verdict.is_met


def test_a_goal_of_which_nothing_was_measured_says_so_where_something_else_was():
    verdicts = list(goals.judge(Summary(both([1], [1], scenario="payload"))))
    assert {(verdict.goal.key.backend, str(verdict), verdict.is_met) for verdict in verdicts} == {
        ("valkey", "not measured", None)
    }
    assert [verdict.goal for verdict in verdicts] == [goal for goal in goals.GOALS if goal.key.backend == "valkey"]
    assert verdicts[0].row()[3:6] == ["", "", ""]


def test_who_is_not_there_has_no_goals():
    assert not list(goals.judge(Summary([line(5, contender="rq")])))


@pytest.mark.parametrize("scenario", ["restart", "own-restart", "backlog", "own-claim_cost"])
def test_recovery_and_the_cost_of_a_long_queue_have_goals_on_every_store(scenario):
    assert [goal.key.backend for goal in goals.GOALS if goal.key.scenario == scenario] == list(BACKENDS)


def test_every_goal_is_of_a_scenario_that_there_is():
    from load_tests import own

    known = {*catalogue.scenarios(), *(OWN + name for name in own.SCENARIOS)}
    assert {goal.key.scenario for goal in goals.GOALS} <= known
