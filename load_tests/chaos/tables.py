"""Reports as text."""

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from load_tests.bench import machine
from load_tests.chaos.account import Verdict

HEAD = (
    *("scenario", "backend", "verdict", "kills", "bites", "accepted", "lost", "again", "twice", "spurious"),
    *("recovery p50", "max s"),
)
SUMMARY = (
    *("scenario", "stores", "verdicts", "kills", "bites"),
    *("accepted", "lost", "run again", "for no reason", "failed wrongly"),
    *("median recovery, s", "longest recovery, s"),
)
ALL = "all"
FIRST = frozenset({"scenario", "backend", "seed", "verdict", "problems"})
"""What each report tells."""
NOTHING = "–"
"""What stands for a figure that nobody knows."""


class NoReports(ValueError):
    """A file holds something else than reports."""


def read(file: Path) -> list[dict[str, Any]]:
    """Return the reports in a file."""
    try:
        reports = [json.loads(line) for line in file.read_text().splitlines()]
    except OSError as error:
        raise NoReports(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise NoReports(f"{file} is no file of chaos --out: {error}") from error
    if not all(isinstance(report, dict) and report.keys() >= FIRST for report in reports):
        raise NoReports(f"{file} is no file of chaos --out: a line lacks one of {', '.join(sorted(FIRST))}")
    return reports


def without_end(name: str, kind: str, seed: int, problem: str, verdict: Verdict = Verdict.FAIL) -> dict[str, Any]:
    """Return the report of a run that did not come to its end, or never began."""
    return {
        "scenario": name,
        "backend": kind,
        "seed": seed,
        "commit": machine.commit(),
        "verdict": str(verdict),
        "problems": [problem],
    }


def line(report: dict[str, Any]) -> str:
    """Return a report in one line, with a line for each problem."""
    head = f"{report['verdict']:7} {report['scenario']} on {report['backend']}, seed {report['seed']}"
    return "\n        ".join([head + (_figures(report) if "accepted" in report else ""), *report["problems"]])


def _figures(report: dict[str, Any]) -> str:
    bites = ", ".join(f"{count} {what}" for what, count in report["bites"].items())
    facts = ", ".join(f"{what} {value:g}" for what, value in report["facts"].items())
    return (
        f": {bites}; {report['accepted']} accepted, {report['lost']} lost, {report['reruns']} run again, "
        f"{report['duplicates']} for no reason, {report['spurious']} failed wrongly; recovery "
        f"{report['recovery_p50']} s, max {report['recovery_max']} s; {facts}; {report['seconds']} s"
    )


def table(reports: Sequence[dict[str, Any]]) -> str:
    """Return a table in Markdown, with what went wrong below it."""
    rows = [HEAD, tuple("---" for _ in HEAD), *(_row(report) for report in reports)]
    return "\n".join([*_lines(rows), *_problems(reports)])


def summary(reports: Sequence[dict[str, Any]]) -> str:
    """Return a table in Markdown with a row a scenario, of the last run on each store; what broke is one of them.

    The last row is the sum of all. A recovery is the median of the runs' medians. What went wrong stands below, and of
    which commits the runs are, under which load.
    """
    last = {(report["scenario"], report["backend"]): report for report in reports}
    groups: dict[str, list[dict[str, Any]]] = {}
    for report in last.values():
        groups.setdefault(report["scenario"], []).append(report)
    rows = [SUMMARY, tuple("---" for _ in SUMMARY), *(_of_scenario(*group) for group in sorted(groups.items()))]
    rows.append((ALL, f"{len(last)} runs", *_sums(list(last.values()), NOTHING)))
    return "\n".join([*_lines(rows), *_problems(last.values()), "", *origins(last.values())])


def _lines(rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in rows]


def _problems(reports: Iterable[dict[str, Any]]) -> list[str]:
    return [f"{r['scenario']} on {r['backend']}, seed {r['seed']}: {p}" for r in reports for p in r["problems"]]


def origins(reports: Iterable[dict[str, Any]]) -> list[str]:
    """Return a line for each commit that the reports are of."""
    loads: dict[str, list[float]] = {}
    runs: Counter[str] = Counter()
    for report in reports:
        commit = report.get("commit") or "unknown"
        runs[commit] += 1
        loads.setdefault(commit, []).extend([report["load"]] if "load" in report else [])
    return [
        f"Commit {commit}, load {f'{min(found):g} to {max(found):g}' if found else 'unknown'}: {count} of the runs."
        for commit, count in runs.items()
        for found in [loads[commit]]
    ]


def _of_scenario(name: str, group: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    bites: Counter[str] = Counter()
    for report in group:
        bites.update(report.get("bites", {}))
    stores = ", ".join(sorted(report["backend"] for report in group))
    return name, stores, *_sums(group, ", ".join(f"{count} {what}" for what, count in bites.items()) or NOTHING)


def _sums(reports: Sequence[dict[str, Any]], bites: str) -> tuple[str, ...]:
    """Return the cells of reports from the verdicts on; what bit is no sum where faults differ."""
    verdicts = Counter(report["verdict"] for report in reports)
    known = [report for report in reports if "accepted" in report]
    names = ("kills", "accepted", "lost", "reruns", "duplicates", "spurious")
    kills, *numbers = (f"{sum(report[name] for report in known):,}" if known else NOTHING for name in names)
    medians, longest = (
        [report[name] for report in known if report[name] is not None] for name in ("recovery_p50", "recovery_max")
    )
    return (
        ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()),
        kills,
        bites,
        *numbers,
        f"{statistics.median(medians):.2f}" if medians else NOTHING,
        f"{max(longest):.1f}" if longest else NOTHING,
    )


def _row(report: dict[str, Any]) -> tuple[str, ...]:
    bites = ", ".join(f"{count} {what}" for what, count in report.get("bites", {}).items())
    names = ("kills", "accepted", "lost", "reruns", "duplicates", "spurious", "recovery_p50", "recovery_max")
    kills, *others = (NOTHING if report.get(name) is None else f"{report[name]:g}" for name in names)
    return (report["scenario"], report["backend"], report["verdict"], kills, bites, *others)
