"""A picture for each scenario: of each of its figures, medians as bars, minimum and maximum as whiskers."""

from pathlib import Path
from typing import TYPE_CHECKING

from load_tests.figures import number
from load_tests.report.summary import Key, Spread, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = ("svg", "png")
WIDE = 20.0
"""From this ratio on, an axis is logarithmic."""

type Spreads = dict[str, Spread]


def draw(summary: Summary, directory: Path) -> None:
    """Write ``BACKEND-SCENARIO.svg`` and ``.png`` for each scenario."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "bench"  # the same results make the same file
    for backend, scenario in summary.places():
        found: dict[str, Spreads] = {}
        for name in summary.measured(backend, scenario):
            key = Key(backend, scenario, name)
            spreads = {who: summary.spread(key, who) for who in summary.contenders(backend, scenario)}
            if known := {who: spread for who, spread in spreads.items() if spread and spread.median is not None}:
                found[name] = known
        if found:
            _draw(f"{scenario} on {backend}", found, directory / f"{backend}-{scenario}{summary.slug}")


def _draw(title: str, figures: dict[str, Spreads], path: Path) -> None:
    from matplotlib.figure import Figure

    heights = [1.0 + 0.4 * len(spreads) for spreads in figures.values()]
    figure = Figure(figsize=(8, sum(heights) + 0.4), layout="constrained")
    rows = figure.subplots(len(figures), squeeze=False, height_ratios=heights)
    for (axes,), (name, spreads) in zip(rows, figures.items(), strict=True):
        _draw_bars(axes, name, spreads)
    figure.suptitle(title)
    for kind in KINDS:
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(path.with_name(f"{path.name}.{kind}"), metadata=metadata)


def _draw_bars(axes: "Axes", name: str, spreads: Spreads) -> None:
    names = sorted(spreads, key=lambda who: spreads[who].median or 0.0)
    medians = [spreads[who].median or 0.0 for who in names]
    lows = [median - (spreads[who].low or 0.0) for who, median in zip(names, medians, strict=True)]
    highs = [(spreads[who].high or median) - median for who, median in zip(names, medians, strict=True)]
    colours = ["#c2410c" if who == "vtasks" else "#64748b" for who in names]
    bars = axes.barh(names, medians, xerr=[lows, highs], color=colours, capsize=3)
    if min(medians) > 0 and max(medians) / min(medians) > WIDE:
        axes.set_xscale("log")
    axes.bar_label(bars, [f" {number(median)}" for median in medians])
    axes.margins(x=0.15)
    axes.set_xlabel(name)
    axes.grid(visible=True, axis="x", alpha=0.3)
