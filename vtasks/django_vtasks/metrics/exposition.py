"""Values → prometheus_client's metrics: for the default registry of a process, and as the page of a worker."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from django_vtasks.metrics import projects, tally, text
from django_vtasks.metrics.catalogue import CATALOGUE, COUNTER, HISTOGRAM, Family
from django_vtasks.metrics.projects import ProjectFamily
from django_vtasks.metrics.tally import Key, Labels, Value
from django_vtasks.metrics.totals import summed

logger = logging.getLogger(__name__)

type Source = Callable[[], Mapping[Key, Value]]
type ProjectSource = Callable[[], Mapping[str, ProjectFamily]]

MISSING = 'they need prometheus_client: pip install "django-vtasks[metrics]"'


def is_available() -> bool:
    """Tell whether prometheus_client is installed."""
    try:
        return find_spec("prometheus_client") is not None
    except (ImportError, ValueError):  # as good as not installed
        return False


class Collector:
    """Gives prometheus_client the sums of what some sources say when it asks."""

    def __init__(self, *sources: Source) -> None:
        self.sources: list[Source] = list(sources)
        self.asked_at = float("-inf")
        """When somebody last wanted to know, by the monotonic clock."""

    def describe(self) -> Iterator[Any]:
        """Yield all families, without values."""
        return (_metric(family, ()) for family in CATALOGUE)

    def collect(self) -> Iterator[Any]:
        """Yield the families that have values."""
        self.asked_at = time.monotonic()
        return (_metric(family, series) for family, series in text.by_family(self.values()))

    def values(self) -> Mapping[Key, Value]:
        """Return the sums."""
        return summed(source() for source in list(self.sources))


class _ProjectCollector:
    """Gives prometheus_client the project's own metrics of other processes."""

    def __init__(self, source: ProjectSource) -> None:
        self._source = source

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import Metric

        for name, family in sorted(self._source().items()):
            metric = Metric(name, family.help, family.kind, family.unit)
            for (sample, labels), value in family.samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric


process = Collector(tally.values)
"""Tells of this process, in the default registry: of its enqueues, and of a worker inside it, which adds a source."""


def register() -> None:
    """Put this process's metrics into the default registry, once, if there is one."""
    if not is_available():
        return
    from prometheus_client import REGISTRY

    if process in _registered:
        return
    _registered.append(process)
    try:
        REGISTRY.register(process)
    except ValueError as error:
        logger.error("No metrics in the default registry: %s", error)  # noqa: TRY400 - it names them


_registered: list[Collector] = []


class Page:
    """The text of a scrape of some sources, and of the project's metrics."""

    def __init__(self, sources: Sequence[Source], project: ProjectSource) -> None:
        self._collector = Collector(*sources)
        self._project = project
        self._registry: Any = None

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type, in the format that the ``Accept`` header asks for."""
        if self._registry is None:
            self._registry = self._make_registry()
        projects_part, content_type = default_page(accept, self._registry)
        openmetrics = content_type.startswith("application/openmetrics-text")
        # What is added up by hand is written by hand, in a fifth of the time; the end of OpenMetrics is the other's.
        return text.render(self._collector.values(), openmetrics=openmetrics).encode() + projects_part, content_type

    def _make_registry(self) -> Any:
        from prometheus_client import CollectorRegistry
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry(auto_describe=False)
        if projects.is_gathered_in_files():
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        else:
            registry.register(_ProjectCollector(self._project))
        return registry


def default_page(accept: str, registry: Any = None) -> tuple[bytes, str]:
    """Return the page of a registry, or of the default one, and its content type, in the format asked for."""
    from prometheus_client import REGISTRY
    from prometheus_client.exposition import choose_encoder

    encode, content_type = choose_encoder(accept)
    return encode(REGISTRY if registry is None else registry), content_type


def forget_process(pid: int) -> None:
    """Let prometheus_client's multiprocess mode, if it is on, drop the gauges of a process that has ended."""
    if not projects.is_gathered_in_files():
        return
    from prometheus_client.multiprocess import mark_process_dead

    directory = next(os.environ[name] for name in projects.DIRECTORY if name in os.environ)
    with suppress(OSError):  # somebody else tidies up there, or nobody may
        mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]


def _metric(family: Family, series: Iterable[tuple[Labels, Value]]) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    if family.kind == HISTOGRAM:
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, value in series:
            assert isinstance(value, tuple)
            histogram.add_metric(labels, list(text.cumulative(family, value)), value[-1])
        return histogram
    kind = CounterMetricFamily if family.kind == COUNTER else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, value in series:
        assert not isinstance(value, tuple)
        metric.add_metric(labels, value)
    return metric
