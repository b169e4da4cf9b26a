from pathlib import Path

import pytest

from load_tests.bench import kept, results
from load_tests.report import command, quotes
from load_tests.report.summary import divide
from tests.unit.load_tests.lines import both

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs/explanation/benchmarks.md"
KEPT = sorted((ROOT / kept.DIRECTORY).glob("*.jsonl"))
LARGE = 600_000
QUOTES = """How to: `<!-- report: TITLE -->` and `<!-- /report -->`.
<!-- report: noop on valkey -->
old
<!-- /report -->
Between.
<!-- report: Facts -->
<!-- /report -->
After.
"""


def test_a_document_has_each_table_that_it_quotes_as_the_report_has_it():
    text = quotes.quote(QUOTES, divide(both([30], [10])))
    assert "old" not in text
    assert quotes.titles(text) == ["noop on valkey", "Facts"]
    assert text.startswith(QUOTES.splitlines()[0])
    assert "-->\n| contender | tasks/s | tasks/s, × django_vtasks_320 | repetitions |\n" in text
    assert "| vtasks | 30 | 3× | 1 |\n<!-- /report -->\nBetween.\n<!-- report: Facts -->\n- Machine" in text
    assert quotes.quote(text, divide(both([30], [10]))) == text
    assert quotes.quote(text, divide(both([31], [10]))) != text


def test_a_document_that_quotes_what_is_not_there_is_left_as_it_is(tmp_path):
    document, lines = tmp_path / "document.md", tmp_path / "lines.jsonl"
    document.write_text(QUOTES.replace("noop", "nap"))
    kept.write(lines, both([30], [10]))
    with pytest.raises(SystemExit, match="no nap on valkey in the report; there are Facts"):
        command.run(arguments(lines, document, tmp_path))
    assert "old" in document.read_text()


def test_what_a_document_quotes_is_what_is_kept(tmp_path):
    document, lines, keep = tmp_path / "document.md", tmp_path / "lines.jsonl", tmp_path / "kept.jsonl"
    document.write_text(QUOTES)
    found = both([1_234_567.8], [10])
    lines.write_text("".join(f"{line.to_json()}\n" for line in found))
    command.run(arguments(lines, document, tmp_path, f"--keep={keep}"))
    text = document.read_text()
    assert "| vtasks | 1,234,570 |" in text
    assert quotes.quote(text, divide(results.read([keep]))) == text


def test_the_benchmarks_page_says_what_the_report_on_the_kept_results_says():
    text = DOCUMENT.read_text()
    assert bool(KEPT) == bool(quotes.titles(text))
    assert quotes.quote(text, divide(results.read(KEPT))) == text


def test_the_kept_results_are_small():
    assert sum(path.stat().st_size for path in KEPT) < LARGE


@pytest.mark.parametrize("path", ["/work", "/home", "/root", "/tmp", "site-packages"])  # noqa: S108 - none is used
def test_the_kept_results_name_no_path_of_who_measured(path):
    assert not [text for file in KEPT for text in file.read_text().splitlines() if path in text]


def arguments(lines, document, out, *more):
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args([str(lines), f"--into={document}", f"--out={out}", *more])
