"""The table of faults in the documentation names what there is."""

import re

import pytest

from load_tests.chaos import command, tables  # noqa: F401 - whose imports fill SCENARIOS
from load_tests.chaos.scenario import EVERYWHERE, SCENARIOS
from load_tests.chaos.soak import Endurance
from tests.integration.workers import ROOT

PAGE = ROOT / "docs" / "explanation" / "reliability.md"
TESTS = {path.relative_to(ROOT): path.read_text() for path in (ROOT / "tests").rglob("*.py")}
KEPT = ROOT / "load_tests" / "results"
NO_NAMES = {
    "PROMETHEUS_MULTIPROC_DIR",
    "VtasksQueueTooOld",
    "SystemExit",
    "OOM",
    "READONLY",
    "BUSY",
    "LOADING",
    "NOREPLICAS",
    "MISCONF",
}
"""What a fault is called."""


def table():
    """Return the rows below the heading, as lists of cells."""
    text = PAGE.read_text().partition("## What is tried")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


NAMES = sorted({name for row in table() for name in re.findall(r"`([^`]+)`", row[2])} - NO_NAMES)


def is_there(name):
    """Tell whether a scenario, a script, a file of tests, or a test has this name."""
    if re.fullmatch(r"[a-z]+(-[a-z]+)*", name):
        return name in SCENARIOS
    if name.startswith("script/"):
        return (ROOT / name).is_file()
    if name.endswith(".py"):
        return any(str(path).endswith(f"/{name}") or str(path) == name for path in TESTS)
    return any(
        re.search(rf"^\s*(async def|def|class) {re.escape(name)}\b", text, re.MULTILINE) for text in TESTS.values()
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_that_of_a_scenario_or_a_test(name):
    assert is_there(name)


@pytest.mark.parametrize("name", ["no-such-scenario", "TestNothing", "test_no_such_thing", "no_such_file.py"])
def test_a_name_of_nothing_is_found_out(name):
    assert not is_there(name)


def test_each_scenario_is_in_the_table():
    assert [name for name in SCENARIOS if name not in NAMES] == []


def test_each_class_of_tests_stands_in_the_file_that_is_named_beside_it():
    pairs = re.findall(r"`(Test\w+)` in `([^`]+)`", PAGE.read_text())

    assert pairs
    for name, file in pairs:
        [text] = [text for path, text in TESTS.items() if str(path).endswith(file)]
        assert f"class {name}:" in text


def kept(what):
    """Return the reports that the page quotes."""
    return [report for file in sorted((KEPT / what).glob("*.jsonl")) for report in tables.read(file)]


def test_the_page_says_of_the_runs_what_the_kept_reports_say():
    assert tables.summary(kept("chaos")) in PAGE.read_text()


def test_each_scenario_was_run_on_each_store_that_it_applies_to():
    runs = {(report["scenario"], report["backend"]) for report in kept("chaos")}

    assert runs == {(name, kind) for name, one in SCENARIOS.items() for kind in EVERYWHERE & one.stores}


def test_the_page_says_of_the_soaks_what_the_kept_samples_say():
    for report in kept("soak"):
        endurance = Endurance()
        endurance.times, endurance.samples = report["times"], report["samples"]
        rows = endurance.table().splitlines()[1:]

        assert "\n".join(rows) in PAGE.read_text(), report["backend"]
