"""The metrics of the project's own tasks: prometheus_client's default registry of one process, as plain values."""

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from django_vtasks.metrics.catalogue import CATALOGUE

OURS = frozenset(family.name for family in CATALOGUE)
OF_PROCESSES = frozenset({
    "process_virtual_memory_bytes", "process_resident_memory_bytes", "process_start_time_seconds",
    "process_cpu_seconds", "process_open_fds", "process_max_fds", "python_info", "python_gc_objects_collected",
    "python_gc_objects_uncollectable", "python_gc_collections",
})  # fmt: skip
"""What prometheus_client tells unasked: facts of one process, which add up to nothing."""
ADDED = frozenset({"counter", "histogram", "gaugehistogram", "summary"})
"""Kinds whose samples of several processes add up; the others are facts of one actor each."""

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"
"""What names the directory of its multiprocess mode, once so and once so."""

type Labels = tuple[tuple[str, str], ...]
type Sample = tuple[str, Labels]


class ProjectFamily(NamedTuple):
    """A metric of the project's, with the values of its samples."""

    kind: str
    help: str
    unit: str
    samples: Mapping[Sample, float]


def collect() -> dict[str, ProjectFamily]:
    """Return the project's metrics by name; none when it does not use prometheus_client, or gathers them in files."""
    return read(sys.modules["prometheus_client"].REGISTRY.collect()) if are_readable() else {}


def are_readable() -> bool:
    """Tell whether this process may have metrics of the project's."""
    return sys.modules.get("prometheus_client") is not None and not is_gathered_in_files()


def is_gathered_in_files() -> bool:
    """Tell whether prometheus_client's multiprocess mode already adds up what all processes count."""
    return any(name in os.environ for name in DIRECTORY)


def read(metrics: Iterable[Any]) -> dict[str, ProjectFamily]:
    """Return prometheus_client's metrics as plain values, by name."""
    return {
        metric.name: ProjectFamily(metric.type, metric.documentation, metric.unit, _samples(metric))
        for metric in metrics
        if metric.name not in OURS and metric.name not in OF_PROCESSES
    }


def _samples(metric: Any) -> dict[Sample, float]:
    # A collector of the project's own may give values of any type, which would have to travel.
    return {
        (sample.name, tuple((str(label), str(text)) for label, text in sample.labels.items())): float(sample.value)
        for sample in metric.samples
        if not sample.name.endswith("_created")  # of several processes none is right
    }


def merged(family: ProjectFamily, other: ProjectFamily) -> ProjectFamily:
    """Return the sum of two processes' values; of what does not add up, those of both."""
    samples = dict(family.samples)
    for sample, value in other.samples.items():
        samples[sample] = samples.get(sample, 0.0) + value if family.kind in ADDED else value
    return family._replace(samples=samples)


def of_actor(family: ProjectFamily, actor: str) -> ProjectFamily:
    """Return a family as one actor's: what does not add up says whose it is."""
    if family.kind in ADDED:
        return family
    samples = {(name, _labelled(labels, actor)): value for (name, labels), value in family.samples.items()}
    return family._replace(samples=samples)


def _labelled(labels: Labels, actor: str) -> Labels:
    name = "vtasks_actor" if "actor" in dict(labels) else "actor"
    return (*labels, (name, actor))
