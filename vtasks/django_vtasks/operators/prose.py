"""Pictures in words: aligned tables, spans of time, text that a terminal takes for nothing else."""

from collections.abc import Sequence
from datetime import UTC, datetime

MINUTE, HOUR, DAY = 60, 3600, 86400
LONGEST = 60
"""Characters of a cell, so that a line stays one."""


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return lines with aligned columns, numbers to the right, under a head."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    is_number = [bool(rows) and all(type(row[at]) in {int, float} for row in rows) for at in range(len(head))]

    def line(row: Sequence[str]) -> str:
        pairs = zip(row, widths, is_number, strict=True)
        return "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in pairs).rstrip()

    return [line(row) for row in ([name.upper() for name in head], *cells)]


def span(seconds: float | None) -> str:
    """Return a span of time as people say it, with its two largest units."""
    if seconds is None:
        return "-"
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for unit, size, below, part in ((" d", DAY, HOUR, " h"), (" h", HOUR, MINUTE, " min"), (" min", MINUTE, 1, " s")):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // below}{part}"
    raise AssertionError("unreachable")


def moment(seconds: float) -> str:
    """Return a time in the project's time zone."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(sep=" ", timespec="seconds")


def harmless(text: str) -> str:
    """Return text of several lines without what would move a terminal's cursor, or worse."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def _cell(value: object) -> str:
    text = {None: "-", True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else str(value)
    first, _, more = harmless(text).replace("\t", " ").partition("\n")
    return f"{first[: LONGEST - 1]}…" if more or len(first) > LONGEST else first or "-"
