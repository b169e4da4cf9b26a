"""Reports as text."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from load_tests.chaos.account import Verdict

HEAD = (
    *("scenario", "backend", "verdict", "kills", "bites", "accepted", "lost", "again", "twice", "spurious"),
    *("recovery p50", "max s"),
)


def read(file: Path) -> list[dict[str, Any]]:
    """Return the reports in a file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def broken(name: str, kind: str, seed: int, code: int) -> dict[str, Any]:
    """Return the report of a run that did not come to its end."""
    return {
        "scenario": name,
        "backend": kind,
        "seed": seed,
        "verdict": str(Verdict.FAIL),
        "problems": [f"the run itself broke, exit code {code}"],
    }


def line(report: dict[str, Any]) -> str:
    """Return a report in one line, with a line for each problem."""
    bites = ", ".join(f"{count} {what}" for what, count in report.get("bites", {}).items())
    facts = ", ".join(f"{what} {value:g}" for what, value in report.get("facts", {}).items())
    head = (
        f"{report['verdict']:7} {report['scenario']} on {report['backend']}, seed {report['seed']}: {bites}; "
        f"{report.get('accepted')} accepted, {report.get('lost')} lost, {report.get('reruns')} run again, "
        f"{report.get('duplicates')} for no reason, {report.get('spurious')} failed wrongly; recovery "
        f"{report.get('recovery_p50')} s, max {report.get('recovery_max')} s; {facts}; {report.get('seconds')} s"
    )
    return "\n        ".join([head, *report["problems"]])


def table(reports: Sequence[dict[str, Any]]) -> str:
    """Return a table in Markdown, with what went wrong below it."""
    rows = [HEAD, tuple("---" for _ in HEAD), *(_row(report) for report in reports)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines += [f"{r['scenario']} on {r['backend']}: {p}" for r in reports for p in r["problems"]]
    return "\n".join(lines)


def _row(report: dict[str, Any]) -> tuple[str, ...]:
    bites = ", ".join(f"{count} {what}" for what, count in report.get("bites", {}).items())
    names = ("kills", "accepted", "lost", "reruns", "duplicates", "spurious", "recovery_p50", "recovery_max")
    kills, *others = ("–" if report.get(name) is None else f"{report[name]:g}" for name in names)
    return (report["scenario"], report["backend"], report["verdict"], kills, bites, *others)
