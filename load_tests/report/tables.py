"""The tables of a report, as rows of cells, and as Markdown."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median

from load_tests.bench.contender import BASELINE
from load_tests.bench.results import Line
from load_tests.report import goals
from load_tests.report.summary import Key, Summary, number


@dataclass
class Table:
    """A title and rows; the first row is the head."""

    title: str
    rows: list[list[str]]
    plot: str | None = None
    """The name of its plot's files."""
    notes: list[str] = field(default_factory=list)


def tables(summary: Summary) -> Iterator[Table]:
    """Yield the verdicts, and a table for each scenario on each backend."""
    verdicts = [verdict.row() for verdict in goals.judge(summary)]
    if verdicts:
        yield Table("Goals", [goals.HEAD, *verdicts])
    for backend, scenario in summary.places():
        if table := _scenario(summary, backend, scenario):
            yield table


def head(lines: Iterable[Line]) -> list[str]:
    """Return what stands above: machine, commit, seeds, versions, what the machine can do."""
    lines = list(lines)
    machines = dict.fromkeys(
        f"{line.machine.get('cpu')}, {line.machine.get('cores')} cores, {line.machine.get('kernel')}" for line in lines
    )
    commits = dict.fromkeys(line.commit for line in lines)
    seeds = dict.fromkeys(str(line.seed) for line in lines)
    times = sorted(line.time for line in lines)
    versions = dict.fromkeys(
        f"{line.contender}: " + ", ".join(map(" ".join, line.versions.items())) for line in lines if line.versions
    )
    yardsticks: dict[str, list[float]] = {}
    for line in lines:
        for name, value in line.yardstick.items():
            yardsticks.setdefault(f"{line.backend} {name}", []).append(value)
    foreign = sorted(line.foreign for line in lines if line.foreign is not None)
    facts = [
        f"Machine: {'; '.join(machines)}",
        f"Commit {', '.join(commits)}, seed {', '.join(seeds)}, {times[0]} to {times[-1]}",
        "Servers wait for the disk" if any(line.durable for line in lines) else "No server waits for the disk",
        f"Cores used by others meanwhile: {number(median(foreign))}, at most {number(foreign[-1])}" if foreign else "",
        *(f"Yardstick {name}: {number(min(them))}–{number(max(them))}" for name, them in yardsticks.items()),
        *versions,
    ]
    return [fact for fact in facts if fact]


def unmeasured(summary: Summary) -> Table | None:
    """Return a table of what could not be measured, and why."""
    rows = dict.fromkeys((line.backend, line.scenario, line.contender, reason(line)) for line in summary.unmeasured())
    head = ["backend", "scenario", "contender", "why"]
    return Table("Not measured", [head, *map(list, rows)]) if rows else None


def reason(line: Line) -> str:
    """Return why a line has no valid figures."""
    if line.skipped:
        return line.skipped
    if line.error:
        return f"failed: {line.error.splitlines()[-1]}"
    return f"invalid: {line.missing} tasks missing, {line.doubled} doubled"


def markdown(summary: Summary) -> str:
    """Return the report as Markdown."""
    parts = ["# Benchmarks", *(f"- {line}" for line in head(summary.lines))]
    last = unmeasured(summary)
    for table in [*tables(summary), *([last] if last else [])]:
        parts += ["", f"## {table.title}", "", _markdown_row(table.rows[0]), "|" + "---|" * len(table.rows[0])]
        parts += map(_markdown_row, table.rows[1:])
        if table.plot:
            parts += ["", f"![{table.title}]({table.plot}.svg)"]
    return "\n".join(parts) + "\n"


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _scenario(summary: Summary, backend: str, scenario: str) -> Table | None:
    names, contenders = summary.figures(backend, scenario), summary.contenders(backend, scenario)
    if not names:
        return None
    rows = [["contender", *names, f"{names[0]}, × {BASELINE}"]]
    for contender in contenders:
        cells = [contender]
        for name in names:
            values = summary.spread(Key(backend, scenario, name), contender)
            cells.append(goals.spread(values) if values else "")
        ratio = summary.ratio(Key(backend, scenario, names[0]), contender)
        rows.append([*cells, f"{number(ratio.median)}×" if ratio else ""])
    return Table(f"{scenario} on {backend}", rows, plot=f"{backend}-{scenario}")
