"""``python -m load_tests report``: from lines of results to what docs may quote."""

import argparse
import sys
from pathlib import Path

from load_tests.bench import kept, results
from load_tests.report import page, plots, quotes, tables
from load_tests.report.summary import Summary, divide

OUT = Path(".cache/bench/report")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a report."""
    add = parser.add_argument
    add("results", nargs="+", type=Path, metavar="JSONL", help="what `bench` has written")
    add("--out", type=Path, default=OUT, help=f"the directory to write into (default: {OUT})")
    add("--keep", type=Path, metavar="JSONL", help=f"also write the results, in short, to be kept in {kept.DIRECTORY}")
    add("--into", type=Path, metavar="DOCUMENT", help="also write each table that a document quotes into it")


def run(arguments: argparse.Namespace) -> None:
    """Write the Markdown, the plots and the page; print the Markdown."""
    try:
        lines = results.read(arguments.results)
        if not lines:
            sys.exit("There are no results in there.")
        if arguments.keep:
            kept.write(arguments.keep, lines)
            lines = results.read([arguments.keep])  # so that whoever makes the report of these again gets the same
        summaries = divide(lines)
        if document := arguments.into:
            document.write_text(quotes.quote(document.read_text(), summaries))
    except (OSError, results.BadLineError, quotes.NotInReportError) as error:
        sys.exit(str(error))
    write(summaries, arguments.out)
    print((arguments.out / "report.md").read_text())
    print(f"{arguments.out}/report.html")


def write(summaries: list[Summary], directory: Path) -> None:
    """Write all files of a report."""
    directory.mkdir(parents=True, exist_ok=True)
    for summary in summaries:
        plots.draw(summary, directory)
    (directory / "report.md").write_text(tables.markdown(summaries))
    (directory / "report.html").write_text(page.page(summaries, directory))
