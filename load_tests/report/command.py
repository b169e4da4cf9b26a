"""``python -m load_tests report``: from lines of results to what docs may quote."""

import argparse
import sys
from pathlib import Path

from load_tests.bench import results
from load_tests.report import page, plots, tables
from load_tests.report.summary import Summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a report."""
    parser.add_argument("results", nargs="+", type=Path, metavar="JSONL", help="what `bench` has written")
    parser.add_argument("--out", type=Path, default=Path(".cache/bench/report"), help="the directory to write into")


def run(arguments: argparse.Namespace) -> None:
    """Write the Markdown, the plots and the page; print the Markdown."""
    lines = results.read(arguments.results)
    if not lines:
        sys.exit("There are no results in there.")
    write(Summary(lines), arguments.out)
    print((arguments.out / "report.md").read_text())
    print(f"{arguments.out}/report.html")


def write(summary: Summary, directory: Path) -> None:
    """Write all files of a report."""
    directory.mkdir(parents=True, exist_ok=True)
    plots.draw(summary, directory)
    (directory / "report.md").write_text(tables.markdown(summary))
    (directory / "report.html").write_text(page.page(summary, directory))
