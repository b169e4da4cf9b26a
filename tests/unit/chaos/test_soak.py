"""What a soak concludes from its samples."""

import argparse
import json
from types import SimpleNamespace

import pytest

from load_tests.chaos import conductor, samples, slopes, soak, tables
from load_tests.chaos.soak import Endurance


class Calendar:
    """A run whose time passes at once, and which notes what happens in it."""

    seconds = 3600.0
    scenario = SimpleNamespace(rate=10.0)

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.problems: list[str] = []
        self.facts: dict[str, float] = {}
        self.pace = 9.5
        self.ledger = SimpleNamespace(count=lambda kind: self.pace * self.now if kind == "try" else 0)
        self.counts: dict[str, int] = {}
        self.workers = [SimpleNamespace(send=lambda _number: None)]
        self.chance = SimpleNamespace(uniform=lambda *_: 30.0, choice=lambda of: of[0])
        monkeypatch.setattr(soak, "time", SimpleNamespace(monotonic=lambda: self.now))

    def actors(self):
        return {"default#1": 1}

    def kill(self, pid):
        self.bit("kills")

    def bit(self, what, times=1):
        self.counts[what] = self.counts.get(what, 0) + times

    def pass_time(self, seconds):
        self.now += seconds

    def expect(self, holds, problem):
        if not holds:
            self.problems.append(problem)


@pytest.fixture
def run(monkeypatch):
    from tests.workapp import tasks

    monkeypatch.setattr(tasks, "fail", SimpleNamespace(enqueue=lambda _kind: None))
    return Calendar(monkeypatch)


def test_a_figure_that_grows_is_a_problem_and_one_that_is_flat_or_grows_slowly_is_none(run, monkeypatch):
    monkeypatch.setattr(
        samples, "sample", lambda run: {"leak": run.now / 60, "drip": 1000 + run.now / 1800, "flat": 7.0}
    )
    endurance = Endurance()

    endurance(run)

    assert [problem.split(" by ")[0] for problem in run.problems] == ["leak grows"]
    verdicts = {
        row.split(" | ")[0].strip("| "): row.split(" | ")[-1].strip(" |") for row in endurance.table().splitlines()
    }
    assert (verdicts["leak"], verdicts["drip"], verdicts["flat"]) == ("GROWS", "grows slowly", "flat")


def test_actors_are_killed_and_tasks_fail_all_the_time(run, monkeypatch):
    monkeypatch.setattr(samples, "sample", lambda _run: {"flat": 7.0})

    Endurance()(run)

    assert run.counts["samples"] == 720
    assert run.counts[soak.FAILED] == 720 * soak.FAILURES
    assert run.counts["kills"] > 100
    assert run.counts[soak.REPLACED] > 100


def test_the_shortest_soak_meets_everything_whatever_chance_decides(run, monkeypatch):
    monkeypatch.setattr(samples, "sample", lambda _run: {"flat": 7.0})
    run.chance.uniform = lambda _low, high: high
    run.seconds = soak.MINUTE * soak.SHORTEST
    last = []
    run.workers[0].send = lambda _number: last.append(run.now)

    endurance = Endurance()
    endurance(run)

    assert {"kills", soak.REPLACED, soak.FAILED, "samples"} <= run.counts.keys()
    assert endurance.times[-1] > last[0] + soak.SAMPLE_EVERY
    assert endurance.slopes()["flat"].trend == slopes.Trend.FLAT


def test_what_grows_only_until_caches_are_warm_is_flat(run, monkeypatch):
    monkeypatch.setattr(samples, "sample", lambda run: {"warm": min(run.now, soak.WARM_UP)})

    Endurance()(run)

    assert run.problems == []


def test_a_load_that_falls_behind_is_a_problem(run, monkeypatch):
    monkeypatch.setattr(samples, "sample", lambda _run: {"flat": 7.0})
    run.pace = 8.9

    Endurance()(run)

    assert run.problems == ["8.9 calls a second were made, not 10"]


class TestReport:
    @pytest.fixture
    def end(self, monkeypatch):
        """Give a function that makes the report of a soak which has ended at once."""

        def conduct(scenario, kind, **_):
            scenario.inject.times = [5.0 * number for number in range(20)]
            scenario.inject.samples = [{"flat": 7.0}] * 20
            return tables.without_end("soak", kind, 7, "too short")

        monkeypatch.setattr(conductor, "conduct", conduct)
        options = {"rate": 200.0, "backend": "sqlite", "seed": None, "minutes": 20.0, "keep": None}
        return lambda out: soak.run_soak(argparse.Namespace(**options, out=out))

    def test_is_written_into_a_directory_that_was_not_there(self, end, tmp_path):
        out = tmp_path / "deep" / "soak.jsonl"

        with pytest.raises(SystemExit):
            end(out)

        assert json.loads(out.read_text())["samples"] == [{"flat": 7.0}] * 20

    def test_of_a_soak_that_was_broken_off_has_its_samples(self, end, tmp_path, monkeypatch):
        def break_off(scenario, _kind, **_):
            scenario.inject.times, scenario.inject.samples = [5.0], [{"flat": 7.0}]
            raise SystemExit(143)

        monkeypatch.setattr(conductor, "conduct", break_off)
        out = tmp_path / "soak.jsonl"

        with pytest.raises(SystemExit, match="143"):
            end(out)

        report = json.loads(out.read_text())
        assert (report["verdict"], report["problems"]) == ("FAIL", ["it was broken off"])
        assert report["samples"] == [{"flat": 7.0}]

    def test_is_printed_also_when_it_cannot_be_written(self, end, tmp_path, capsys):
        (tmp_path / "file").touch()

        with pytest.raises(OSError, match="file"):
            end(tmp_path / "file" / "soak.jsonl")

        assert "| flat | 7 | +0 |" in capsys.readouterr().out
