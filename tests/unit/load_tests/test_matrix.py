import pytest

from load_tests.bench import contender
from load_tests.bench.catalogue import scenarios
from load_tests.bench.matrix import Matrix
from load_tests.bench.scenarios import Drain
from load_tests.bench.stores import SQLite

STORE = SQLite(None)


@pytest.mark.parametrize(("name", "tasks"), [("vtasks", 1000), (contender.BASELINE, 1000), ("huey", 500)])
def test_who_is_in_no_goal_gets_a_share_but_enough_for_a_99th_percentile(name, tasks):
    assert count("latency", contender.load(name), matrix(share=0.25)) == tasks


@pytest.mark.parametrize(("name", "tasks"), [("vtasks", 4000), ("huey", 1000)])
def test_a_drain_of_a_share_takes_a_share_of_the_seconds(name, tasks, calibrations):
    assert count("sleep", contender.load(name), matrix(share=0.25)) == tasks


@pytest.mark.parametrize(("rate", "tasks"), [(1000.0, 750), (400.0, 500), (40.0, 200), (4.0, 100)])
def test_a_short_drain_is_still_of_several_rounds_unless_that_takes_long(rate, tasks, monkeypatch):
    monkeypatch.setattr(Matrix, "_rate", lambda *_: rate)
    assert count("sleep", contender.load("huey"), matrix(share=0.25, seconds=3.0)) == pytest.approx(tasks, abs=50)


def test_a_drain_is_calibrated_once_for_each_contender_whatever_the_scenario_is(calibrations):
    some = matrix()
    for name in ("vtasks", "celery"):
        for scenario in ("noop_sync", "backlog", "noop_sync"):
            count(scenario, contender.load(name), some)
    assert calibrations == [
        ("vtasks", Drain("noop_sync")),
        ("vtasks", Drain("noop")),
        ("celery", Drain("noop_sync")),
    ]


def test_of_a_share_one_calibration_is_for_all_drains(calibrations):
    some = matrix(share=0.5)
    for scenario in ("noop_two", "sleep", "payload"):
        count(scenario, contender.load("taskiq"), some)
    assert calibrations == [("taskiq", Drain("noop"))]


def test_a_count_that_is_given_is_taken_as_it_is(calibrations):
    assert count("noop", contender.load("vtasks"), matrix(count=70)) == 70
    assert not calibrations


@pytest.fixture
def calibrations(monkeypatch):
    seen = []

    def rate(self, drain, most, who, backend, store):
        seen.append((who.name, drain))
        return 1000.0

    monkeypatch.setattr(Matrix, "_rate", rate)
    return seen


def matrix(**options):
    return Matrix(contenders=[], scenarios=[], backends=[], repetitions=1, seed=0, **options)


def count(scenario, who, of):
    return of._count(scenarios()[scenario], who, "sqlite", STORE)
