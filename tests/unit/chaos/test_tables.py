"""Reports of runs under faults, as text."""

import pytest

from load_tests.chaos import tables


def report(scenario="kill-actor", backend="valkey", verdict="ok", **more):
    numbers = {"kills": 6, "accepted": 1000, "lost": 0, "reruns": 3, "duplicates": 0, "spurious": 0}
    recovery = {"recovery_p50": 0.2, "recovery_max": 0.4}
    found = {"scenario": scenario, "backend": backend, "verdict": verdict, "seed": 7, "problems": []}
    return found | {"bites": {"actors": 2}, "commit": "abc", "load": 1.5} | numbers | recovery | more


@pytest.fixture
def broken():
    return tables.without_end("kill-store", "postgres", 7, "the run itself broke, exit code 1")


def row(text, name):
    [line] = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


class TestSummary:
    def test_adds_up_the_last_run_on_each_store(self):
        runs = [
            *(report(accepted=5), report(recovery_max=None)),
            report(backend="sqlite", recovery_p50=1.5, recovery_max=2.25),
        ]

        assert row(tables.summary(runs), "kill-actor") == [
            *("kill-actor", "sqlite, valkey", "2 ok", "12", "4 actors", "2,000", "0", "6", "0", "0", "0.85", "2.2"),
        ]

    def test_ends_with_the_sums_of_all(self, broken):
        runs = [
            *(report(recovery_p50=0.1), report(backend="sqlite", recovery_p50=None, recovery_max=None)),
            *(report("freeze-actor", lost=1000, recovery_p50=0.3), broken),
        ]
        rows = [line for line in tables.summary(runs).splitlines() if line.startswith("|")]

        assert rows[-1] == "| all | 4 runs | 3 ok, 1 FAIL | 18 | – | 3,000 | 1,000 | 9 | 0 | 0 | 0.20 | 0.4 |"
        assert len({line.count("|") for line in rows}) == 1

    def test_shows_a_run_that_broke_as_a_failure_of_which_nothing_is_known(self, broken):
        text = tables.summary([report("kill-store", "postgres"), broken])

        assert row(text, "kill-store") == ["kill-store", "postgres", "1 FAIL", *9 * ["–"]]
        assert "kill-store on postgres, seed 7: the run itself broke, exit code 1" in text

    def test_adds_up_the_others_beside_one_that_broke(self, broken):
        text = tables.summary([broken, report("kill-store", "valkey")])

        assert row(text, "kill-store")[1:6] == ["postgres, valkey", "1 FAIL, 1 ok", "6", "2 actors", "1,000"]

    def test_tells_what_went_wrong(self):
        assert "kill-actor on valkey, seed 7: lost: t1" in tables.summary(
            [report(verdict="FAIL", problems=["lost: t1"])]
        )

    def test_tells_of_which_commits_the_runs_are_and_under_which_load(self):
        runs = [report(), report(backend="sqlite", load=4.0), report(backend="mariadb", commit="def+", load=2.0)]

        assert tables.summary(runs).splitlines()[-2:] == [
            "Commit abc, load 1.5 to 4: 2 of the runs.",
            "Commit def+, load 2 to 2: 1 of the runs.",
        ]


class TestTable:
    def test_has_a_row_for_a_run_that_broke(self, broken):
        text = tables.table([report(), broken])

        assert row(text, "kill-actor")[1:5] == ["valkey", "ok", "6", "2 actors"]
        assert row(text, "kill-store")[1:4] == ["postgres", "FAIL", "–"]
        assert text.endswith("kill-store on postgres, seed 7: the run itself broke, exit code 1")


def test_a_line_tells_of_a_run_that_broke(broken):
    assert tables.line(broken).splitlines() == [
        "FAIL    kill-store on postgres, seed 7",
        "        the run itself broke, exit code 1",
    ]


def test_a_line_tells_the_figures_of_a_run_that_came_to_its_end():
    line = tables.line(report(facts={"drain": 0.5}, seconds=12.5))

    assert line == (
        "ok      kill-actor on valkey, seed 7: 2 actors; 1000 accepted, 0 lost, 3 run again, 0 for no reason, "
        "0 failed wrongly; recovery 0.2 s, max 0.4 s; drain 0.5; 12.5 s"
    )
