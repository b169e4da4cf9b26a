"""Values → lines of Prometheus's text format, or of OpenMetrics: see docs/adr/0018."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from django_vtasks.metrics.catalogue import CATALOGUE, COUNTER, HISTOGRAM, Family
from django_vtasks.metrics.tally import Key, Labels, Value


def render(values: Mapping[Key, Value], *, openmetrics: bool) -> str:
    """Return the families that have values; without the mark of the end that OpenMetrics has."""
    return "".join(line for family, series in by_family(values) for line in _lines(family, series, openmetrics))


def by_family(values: Mapping[Key, Value]) -> Iterator[tuple[Family, list[tuple[Labels, Value]]]]:
    """Yield the families that have values, in the order of the catalogue, with these by labels."""
    found: dict[str, list[tuple[Labels, Value]]] = {}
    for (name, labels), value in values.items():
        found.setdefault(name, []).append((labels, value))
    for family in CATALOGUE:
        if series := found.get(family.name):
            yield family, sorted(series)


def _lines(family: Family, series: Iterable[tuple[Labels, Value]], openmetrics: bool) -> Iterator[str]:  # noqa: FBT001
    counted = f"{family.name}_total" if family.kind == COUNTER else family.name
    name = family.name if openmetrics else counted
    yield f"# HELP {name} {family.help}\n# TYPE {name} {family.kind}\n"
    for labels, value in series:
        pairs = [f'{label}="{_escaped(text)}"' for label, text in zip(family.labels, labels, strict=True)]
        if isinstance(value, tuple):
            yield from _histogram(family, pairs, value)
        else:
            yield f"{counted}{_braced(pairs)} {value}\n"


def _histogram(family: Family, pairs: list[str], value: tuple[float, ...]) -> Iterator[str]:
    begin = f"{family.name}_bucket{{" + "".join(f"{pair}," for pair in pairs) + 'le="'
    for bound, count in cumulative(family, value):
        yield f'{begin}{bound}"}} {count}\n'
    labels = _braced(pairs)
    yield f"{family.name}_count{labels} {sum(value[:-1])}\n{family.name}_sum{labels} {value[-1]}\n"


def cumulative(family: Family, value: tuple[float, ...]) -> Iterator[tuple[str, float]]:
    """Yield each upper bound of a histogram with how many values were no greater."""
    assert family.kind == HISTOGRAM
    return zip((*map(str, family.buckets), "+Inf"), accumulate(value[:-1]), strict=True)


def _braced(pairs: list[str]) -> str:
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
