"""The tables of a report, as rows of cells, and as Markdown."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from load_tests.bench import contender
from load_tests.bench.contender import BASELINE
from load_tests.bench.results import Line, last_line
from load_tests.figures import cores, number
from load_tests.report import goals
from load_tests.report.summary import Key, Summary


@dataclass
class Table:
    """A title and rows; the first row is the head."""

    title: str
    rows: list[list[str]]
    plot: str | None = None
    """The name of its plot's files."""

    def markdown(self) -> str:
        """Return the rows as Markdown."""
        rule = "|" + "---|" * len(self.rows[0])
        return "\n".join([_markdown_row(self.rows[0]), rule, *map(_markdown_row, self.rows[1:])])


def tables(summary: Summary) -> Iterator[Table]:
    """Yield the verdicts, what contenders promise, a table for each scenario on each backend, and what is in none."""
    for table in _tables(summary):
        table.title += f" ({summary.label})" if summary.label else ""
        yield table


def _tables(summary: Summary) -> Iterator[Table]:
    if verdicts := [verdict.row() for verdict in goals.judge(summary)]:
        yield Table("Goals", [goals.HEAD, *verdicts])
    if promises := list(_promises(summary)):
        yield Table("Contenders", [["contender", "a task whose process is killed"], *promises])
    for backend, scenario in summary.places():
        if table := _scenario(summary, backend, scenario):
            yield table
    if last := unmeasured(summary):
        yield last


def _promises(summary: Summary) -> Iterator[list[str]]:
    known = contender.names()
    for name in sorted({line.contender for line in summary.lines} & set(known), key=known.index):
        yield [name, contender.load(name).promise]


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
    servers = dict.fromkeys(line.server for line in lines if line.server)
    yardsticks: dict[str, list[float]] = {}
    for line in lines:
        for name, value in line.yardstick.items():
            yardsticks.setdefault(f"{line.backend} {name}", []).append(value)
    foreign = sorted(line.foreign for line in lines if line.foreign is not None)
    facts = [
        f"Machine: {'; '.join(machines)}",
        f"Commit {', '.join(commits)}, seed {', '.join(seeds)}, {times[0]} to {times[-1]}",
        "Servers wait for the disk" if any(line.durable for line in lines) else "No server waits for the disk",
        f"Servers: {', '.join(servers)}" if servers else "",
        *(
            f"Of a size or time of {share:g} of the others': {', '.join(some)}"
            for share, some in _shares(lines).items()
        ),
        f"Cores used by others meanwhile: {cores(median(foreign))}, at most {cores(foreign[-1])}" if foreign else "",
        *(f"Yardstick {name}: {number(min(them))}–{number(max(them))}" for name, them in yardsticks.items()),
        *versions,
    ]
    return [fact for fact in facts if fact]


def _shares(lines: Iterable[Line]) -> dict[float, list[str]]:
    found: dict[float, set[str]] = defaultdict(set)
    for line in lines:
        if line.share < 1.0:
            found[line.share].add(line.contender)
    return {share: sorted(names) for share, names in found.items()}


def unmeasured(summary: Summary) -> Table | None:
    """Return a table of what could not be measured, or not to its end, how often, and why."""
    reasons: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for line in summary.unmeasured():
        reasons[line.backend, line.scenario, line.contender].append(reason(line))
    scenarios: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for (backend, scenario, who), why in reasons.items():
        _, attempts = summary.attempts(backend, scenario, who)
        times = f"{len(why)} of {attempts}" if attempts else "–"
        scenarios[backend, who, times, "; ".join(dict.fromkeys(why))].append(scenario)
    head = ["backend", "contender", "repetitions", "why", "scenarios"]
    rows = [[*reason, ", ".join(some)] for reason, some in scenarios.items()]
    return Table("Not measured", [head, *rows]) if rows else None


def reason(line: Line) -> str:
    """Return why a line has no valid figures, or what is not known of it."""
    if line.skipped:
        return line.skipped
    if line.error is not None:
        return f"failed: {last_line(line.error)}"
    if line.is_cut_short:
        return "cut short: counts, though nobody knows whether tasks are missing"
    return f"invalid: {line.inexactness}"


def markdown(summaries: Iterable[Summary]) -> str:
    """Return the report as Markdown."""
    parts = ["# Benchmarks"]
    for summary in summaries:
        parts += ["", facts(summary)]
        for table in tables(summary):
            parts += ["", f"## {table.title}", "", table.markdown()]
            if table.plot:
                parts += ["", f"![{table.title}]({table.plot}.svg)"]
    return "\n".join(parts) + "\n"


def facts(summary: Summary) -> str:
    """Return what stands above the tables, as Markdown."""
    return "\n".join(f"- {line}" for line in head(summary.lines))


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _scenario(summary: Summary, backend: str, scenario: str) -> Table | None:
    names, contenders = summary.figures(backend, scenario), summary.contenders(backend, scenario)
    if not names:
        return None
    rows = [["contender", *names, f"{names[0]}, × {BASELINE}", "repetitions"]]
    for who in contenders:
        cells = [who]
        for name in names:
            values = summary.spread(Key(backend, scenario, name), who)
            cells.append(goals.spread(values) if values else "")
        ratio = summary.ratio(Key(backend, scenario, names[0]), who)
        valid, of = summary.attempts(backend, scenario, who)
        rows.append(
            [*cells, f"{number(ratio.median)}×" if ratio else "", f"{valid} of {of}" if valid < of else f"{of}"]
        )
    for who, why in summary.excuses(backend, scenario).items():
        rows.append([who, f"– ({why})", *[""] * (len(names) + 1)])
    return Table(f"{scenario} on {backend}", rows, plot=f"{backend}-{scenario}{summary.slug}")
