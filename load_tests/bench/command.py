"""``python -m load_tests bench``: the parser, the progress bar, and where the results go."""

import argparse
import sys
from pathlib import Path

from load_tests.arguments import at_least, count, positive, seed_of
from load_tests.bench import contender as contenders
from load_tests.bench.catalogue import MILLION, scenarios
from load_tests.bench.matrix import SECONDS, Matrix
from load_tests.bench.results import Line
from load_tests.figures import cores, number
from load_tests.lines import append

FEW = list(contenders.GOALS_ARE_OF)
OUT = Path(".cache/bench/results.jsonl")
BACKEND = "valkey"
"""Where tasks are unless the command line says."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a benchmark of contenders."""
    names = ", ".join(contenders.names())
    add = parser.add_argument
    add("--contender", action="append", metavar="NAME", help=f"of {names}; all; default: {', '.join(FEW)}")
    add("--scenario", action="append", metavar="NAME", help=f"of {', '.join(scenarios())}; default: all")
    add("--backlog", type=count, help=f"how long the long queue is (default: {MILLION:,})")
    add("--seconds", type=positive, help=f"how long a drain shall last (default: {SECONDS:g})")
    add("--share", type=positive, help="what part of the usual size or time others get than this package and 3.2.0")
    add(
        "--calm",
        type=at_least(0.0),
        metavar="CORES",
        help="wait, up to two minutes each, until others use no more than this",
    )
    add("--here", action="store_true", help="with the Python that runs this, instead of an environment of its own")
    add("--out", type=Path, help=f"append results to this file (default: {OUT}; own: none is written)")


def given(arguments: argparse.Namespace) -> list[str]:
    """Return those options of a benchmark of contenders that were given."""
    names = "contender", "scenario", "backlog", "seconds", "share", "calm", "here"
    return [f"--{name}" for name in names if (value := getattr(arguments, name)) is not None and value is not False]


def run(arguments: argparse.Namespace) -> None:
    """Measure, with a bar on the terminal, a line for each result, and all of it in a file."""
    matrix = _matrix(arguments)
    out: Path = arguments.out or OUT
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty(), refresh_per_second=2
    ) as progress:
        bar = progress.add_task("", total=len(matrix))
        lines: list[Line] = []
        matrix.say = lambda what: progress.update(bar, description=what)
        for line in matrix.run():
            append(out, line.to_json())
            lines.append(line)
            progress.advance(bar, matrix.repetitions if line.repetition is None else 1)
            print(_told(line), flush=True)
    print(f"{out}")
    if broken := [line for line in lines if not line.is_valid and not line.skipped]:
        sys.exit(f"{len(broken)} of {len(lines)} measurements failed or are invalid.")


def _matrix(arguments: argparse.Namespace) -> Matrix:
    every = scenarios(arguments.backlog or MILLION)
    wanted = contenders.names() if arguments.contender == ["all"] else arguments.contender or FEW
    chosen = arguments.scenario or list(every)
    for given, known in ((wanted, contenders.names()), (chosen, every)):
        if unknown := [name for name in given if name not in known]:
            sys.exit(f"There is no {', '.join(unknown)}; there are {', '.join(known)}.")
    return Matrix(
        contenders=[contenders.load(name) for name in wanted],
        scenarios=[every[name] for name in chosen],
        backends=arguments.backend or [BACKEND],
        repetitions=arguments.repeat,
        seed=seed_of(arguments.seed),
        durable=arguments.durable,
        share=arguments.share or 1.0,
        calm=arguments.calm,
        here=arguments.here,
        seconds=arguments.seconds or SECONDS,
        count=arguments.count,
    )


def _told(line: Line) -> str:
    head = f"{line.backend:8} {line.scenario:9} {line.contender:17} "
    if line.skipped or line.error:
        return head + ("– " + line.skipped if line.skipped else f"FAILED: {line.error}")
    figures = [f"{name} {number(value)}" for name, value in line.figures.items()]
    costs = {"worker ms": line.worker_ms, "server ms": line.server_ms, "MB": line.pss, "connections": line.connections}
    figures += [f"{name} {number(value)}" for name, value in costs.items() if value is not None]
    if line.foreign is not None:
        figures.append(f"foreign cores {cores(line.foreign)}")
    if line.is_cut_short:
        figures.append("cut short")
    if not line.is_valid:
        figures.append(f"INVALID: {line.inexactness}")
    return f"{head}{(line.repetition or 0) + 1}: {line.count:,} tasks, " + ", ".join(figures)
