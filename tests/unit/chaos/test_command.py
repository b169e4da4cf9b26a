"""The command line of runs under faults."""

import argparse
import json
import sys
import time

import pytest

from load_tests import __main__
from load_tests.chaos import command, needs, tables
from load_tests.chaos.account import Verdict
from load_tests.chaos.scenario import SCENARIOS


@pytest.fixture
def say(monkeypatch, capsys):
    """Give a function that runs a command line and returns its exit code and what it says at last."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["load_tests", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            __main__.main()
        code = end.value.code
        if isinstance(code, str):  # which Python writes to stderr, and exits with 1
            return 1, code
        out, err = capsys.readouterr()
        return code, (err or out).strip().splitlines()[-1]

    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chaos"], "one of the arguments --scenario --all --ci --list is required"),
        (["chaos", "--ci", "--scenario", "kill-actor"], "argument --scenario: not allowed with argument --ci"),
        (["chaos", "--all", "--scenario", "kill-actor"], "argument --scenario: not allowed with argument --all"),
        (["chaos", "--ci", "--backend", "sqlite"], "--ci has its own backends and times"),
        (["chaos", "--ci", "--seconds", "3"], "--ci has its own backends and times"),
        (["chaos", "--all", "--seconds", "0"], "argument --seconds: '0' is no number above 0"),
        (["chaos", "--all", "--seconds", "nan"], "argument --seconds: 'nan' is no number above 0"),
        (["soak", "--minutes", "0"], "argument --minutes: '0' is no number of 2.5 or more"),
        (["soak", "--minutes", "2"], "argument --minutes: '2' is no number of 2.5 or more"),
        (["soak", "--rate", "-1"], "argument --rate: '-1' is no number above 0"),
        (["soak", "--rate", "many"], "argument --rate: 'many' is no number above 0"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_refused_in_a_line(say, words, said):
    code, line = say(*words)

    assert code == 2
    assert said in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no JSON\n", "is no file of chaos --out: Expecting value"),
        ("[]\n", "is no file of chaos --out: a line lacks one of backend, problems, scenario, seed, verdict"),
        ('{"scenario": "x"}\n', "a line lacks one of"),
        (None, "cannot be read: No such file or directory"),
    ],
    ids=["no JSON", "a list", "half a report", "no file"],
)
def test_a_file_without_reports_is_told_in_a_line(say, tmp_path, text, said):
    file = tmp_path / "reports.jsonl"
    if text is not None:
        file.write_text(text)

    code, line = say("chaos-report", file)

    assert code == 1
    assert said in line


@pytest.mark.parametrize("scenario", ["lose-host", "out-of-memory", "no-process-left", "full-disk"])
def test_a_machine_without_the_means_is_told_what_it_lacks_and_that_is_no_success(say, monkeypatch, tmp_path, scenario):
    monkeypatch.setattr(needs, "_has_capability", lambda _number: False)
    out = tmp_path / "deep" / "report.jsonl"

    code, line = say("chaos", "--scenario", scenario, "--backend", "postgres", "--out", out)

    assert code == 1
    assert line.strip() == "this machine lacks the rights of root (CAP_SYS_ADMIN)"
    [report] = tables.read(out)
    assert report["verdict"] == Verdict.LACKING


def test_a_machine_that_has_all_lacks_nothing(monkeypatch):
    monkeypatch.setattr(needs, "_PROBES", dict.fromkeys(needs._PROBES, lambda: True))

    assert not any(scenario.lacking for scenario in SCENARIOS.values())


def test_a_command_that_is_not_there_is_lacking(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    assert needs.lacking([needs.IPROUTE, needs.MOUNT]) == [needs.IPROUTE, needs.MOUNT]


class TestDeadline:
    def test_ends_a_run_that_does_not_end_even_if_it_will_not(self, monkeypatch, tmp_path):
        monkeypatch.setattr(command, "GRACE", 0.1)
        ready = tmp_path / "ready"
        stubborn = (
            "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
            f" pathlib.Path({str(ready)!r}).touch(); time.sleep(100)"
        )
        began = time.monotonic()

        assert command._run([sys.executable, "-c", stubborn], 1.0) == "the run had not ended after 1 s"
        assert ready.exists()
        assert time.monotonic() - began < 20.0

    def test_leaves_no_time_to_a_run_that_comes_after_it(self, tmp_path):
        out = tmp_path / "report.jsonl"
        arguments = argparse.Namespace(seconds=None, keep=None, out=out)

        report = command._apart("kill-actor", "sqlite", 7, arguments, time.monotonic() - 1.0)

        assert (report["verdict"], report["problems"]) == ("FAIL", ["no time was left for it"])
        assert json.loads(out.read_text()) == report
