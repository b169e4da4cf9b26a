"""What a document quotes of a report, between ``<!-- report: TITLE -->`` and ``<!-- /report -->``."""

import re
from collections.abc import Iterable

from load_tests.report import tables
from load_tests.report.summary import Summary

FACTS = "Facts"
_QUOTE = re.compile(
    r"(?P<begin>^<!-- report: (?P<title>[^<>\n]+) -->\n).*?(?P<end>^<!-- /report -->$)", re.DOTALL | re.MULTILINE
)


class NotInReportError(Exception):
    """A document quotes what the report does not have."""


def parts(summaries: Iterable[Summary]) -> dict[str, str]:
    """Return what can be quoted, by title: each table, and the facts above them."""
    found = {}
    for summary in summaries:
        found[f"{FACTS} ({summary.label})" if summary.label else FACTS] = tables.facts(summary)
        found.update((table.title, table.markdown()) for table in tables.tables(summary))
    return found


def quote(text: str, summaries: Iterable[Summary]) -> str:
    """Return a document with each of its quotations as the report has it."""
    found = parts(summaries)

    def quoted(match: re.Match[str]) -> str:
        if (title := match["title"]) not in found:
            raise NotInReportError(f"There is no {title} in the report; there are {', '.join(found)}.")
        return f"{match['begin']}{found[title]}\n{match['end']}"

    return _QUOTE.sub(quoted, text)


def titles(text: str) -> list[str]:
    """Return what a document quotes."""
    return [match["title"] for match in _QUOTE.finditer(text)]
