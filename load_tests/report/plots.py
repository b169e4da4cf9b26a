"""A picture for each scenario: medians as bars, minimum and maximum as whiskers."""

from pathlib import Path

from load_tests.report.summary import Key, Spread, Summary, number

KINDS = ("svg", "png")
WIDE = 20.0
"""From this ratio on, an axis is logarithmic."""


def draw(summary: Summary, directory: Path) -> None:
    """Write ``BACKEND-SCENARIO.svg`` and ``.png`` for each scenario."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "bench"  # the same results make the same file
    for backend, scenario in summary.places():
        name = next(iter(summary.figures(backend, scenario)), None)
        if name is None:
            continue
        key = Key(backend, scenario, name)
        spreads = {who: summary.spread(key, who) for who in summary.contenders(backend, scenario)}
        known = {who: spread for who, spread in spreads.items() if spread and spread.median is not None}
        _draw(key, known, directory)


def _draw(key: Key, spreads: dict[str, Spread], directory: Path) -> None:
    from matplotlib.figure import Figure

    names = sorted(spreads, key=lambda name: spreads[name].median or 0.0)
    medians = [spreads[name].median or 0.0 for name in names]
    lows = [median - (spreads[name].low or 0.0) for name, median in zip(names, medians, strict=True)]
    highs = [(spreads[name].high or median) - median for name, median in zip(names, medians, strict=True)]
    figure = Figure(figsize=(8, 1.2 + 0.4 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    colours = ["#c2410c" if name == "vtasks" else "#64748b" for name in names]
    bars = axes.barh(names, medians, xerr=[lows, highs], color=colours, capsize=3)
    if medians and min(medians) > 0 and max(medians) / min(medians) > WIDE:
        axes.set_xscale("log")
    axes.bar_label(bars, [f" {number(median)}" for median in medians])
    axes.margins(x=0.15)
    axes.set_xlabel(key.figure)
    axes.set_title(f"{key.scenario} on {key.backend}")
    axes.grid(visible=True, axis="x", alpha=0.3)
    for kind in KINDS:
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(directory / f"{key.backend}-{key.scenario}.{kind}", metadata=metadata)
