"""The report as one HTML page that needs no other file."""

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path

from load_tests.report.goals import NOT_MET
from load_tests.report.summary import Summary
from load_tests.report.tables import Table, head, tables

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #1e293b }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #e2e8f0; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
.met { color: #15803d } .missed { color: #b91c1c; font-weight: bold }
img { max-width: 100% } li { color: #475569 }
@media (prefers-color-scheme: dark) {
  body { background: #0f172a; color: #e2e8f0 } th, td { border-color: #334155 } li { color: #94a3b8 }
  img { background: #fff }
}
"""


def page(summaries: Iterable[Summary], directory: Path) -> str:
    """Return the page; the plots are in the directory."""
    parts = []
    for summary in summaries:
        facts = "".join(f"<li>{escape(fact)}</li>" for fact in head(summary.lines))
        parts += [f"<ul>{facts}</ul>", *(_section(table, directory) for table in tables(summary))]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Benchmarks</title><style>{STYLE}</style>'
        f"<h1>Benchmarks</h1>{''.join(parts)}</html>\n"
    )


def _section(table: Table, directory: Path) -> str:
    first, *rows = table.rows
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in first)
    picture = directory / f"{table.plot}.svg"
    image = ""
    if table.plot and picture.exists():
        data = base64.b64encode(picture.read_bytes()).decode()
        image = f'<img alt="{escape(table.title)}" src="data:image/svg+xml;base64,{data}">'
    return f"<h2>{escape(table.title)}</h2><table><tr>{heads}</tr>{body}</table>{image}"


def _cell(text: str) -> str:
    kind = ' class="met"' if text == "met" else ' class="missed"' if text.startswith(NOT_MET) else ""
    return f"<td{kind}>{escape(text.replace('**', ''))}</td>"
