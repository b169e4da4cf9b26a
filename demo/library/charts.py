"""Words and how often they occur → a bar chart, as SVG."""

from xml.sax.saxutils import escape

ROW = 22
LEFT = 110
BAR = 300
TOP = 34


def bar_chart(title: str, bars: list[tuple[str, int]]) -> str:
    """Return an SVG document with one bar for each (label, value)."""
    longest = max((value for _, value in bars), default=1)
    rows = [_row(index, label, value, longest) for index, (label, value) in enumerate(bars)]
    width, height = LEFT + BAR + 50, TOP + ROW * len(bars) + 8
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="13">'
    )
    heading = f'<text x="8" y="20" font-weight="bold">{escape(title)}</text>'
    return "\n".join([head, heading, *rows, "</svg>", ""])


def _row(index: int, label: str, value: int, longest: int) -> str:
    top, length = TOP + ROW * index, BAR * value // longest
    return (
        f'<text x="{LEFT - 8}" y="{top + 15}" text-anchor="end">{escape(label)}</text>'
        f'<rect x="{LEFT}" y="{top + 3}" width="{length}" height="{ROW - 6}" fill="#417690"/>'
        f'<text x="{LEFT + length + 6}" y="{top + 15}">{value}</text>'
    )
