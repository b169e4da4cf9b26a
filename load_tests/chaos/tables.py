"""Reports as text."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from load_tests.chaos.account import Verdict

HEAD = (
    *("scenario", "backend", "verdict", "kills", "bites", "accepted", "lost", "again", "twice", "spurious"),
    *("recovery p50", "max s"),
)
SUMMARY = (
    *("scenario", "stores", "verdicts", "bites", "accepted", "lost", "run again", "for no reason", "failed wrongly"),
    "longest recovery, s",
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


def summary(reports: Sequence[dict[str, Any]]) -> str:
    """Return a table in Markdown with a row a scenario, of the last run on each store."""
    last = {(report["scenario"], report["backend"]): report for report in reports if "bites" in report}
    groups: dict[str, list[dict[str, Any]]] = {}
    for report in last.values():
        groups.setdefault(report["scenario"], []).append(report)
    rows = [SUMMARY, tuple("---" for _ in SUMMARY), *(_sums(name, group) for name, group in sorted(groups.items()))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _sums(name: str, group: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    bites: Counter[str] = Counter()
    for report in group:
        bites.update(report["bites"])
    verdicts = Counter(report["verdict"] for report in group)
    stores = ", ".join(sorted(report["backend"] for report in group))
    numbers = (sum(report[key] for report in group) for key in ("accepted", "lost", "reruns", "duplicates", "spurious"))
    longest = [report["recovery_max"] for report in group if report["recovery_max"] is not None]
    return (
        name,
        stores,
        ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()),
        ", ".join(f"{count} {what}" for what, count in bites.items()),
        *(f"{number:,}" for number in numbers),
        f"{max(longest):.1f}" if longest else "–",
    )


def _row(report: dict[str, Any]) -> tuple[str, ...]:
    bites = ", ".join(f"{count} {what}" for what, count in report.get("bites", {}).items())
    names = ("kills", "accepted", "lost", "reruns", "duplicates", "spurious", "recovery_p50", "recovery_max")
    kills, *others = ("–" if report.get(name) is None else f"{report[name]:g}" for name in names)
    return (report["scenario"], report["backend"], report["verdict"], kills, bites, *others)
