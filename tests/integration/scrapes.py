"""What a page of metrics says, read as Prometheus would."""

import http.client
import urllib.request
from collections.abc import Callable
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.probes import PATIENCE, eventually

ADDED = {"counter", "histogram", "summary"}


class Sample(NamedTuple):
    """A line of the page; ``adds_up`` says that it must not go back."""

    name: str
    labels: dict[str, str]
    value: float
    adds_up: bool


class Scrape:
    """The samples of one page."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [
            Sample(sample.name, sample.labels, sample.value, family.type in ADDED)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the sum of all samples of a name with these labels, None when there is none."""
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(found) if found else None

    def labels(self, name: str, label: str) -> set[str]:
        """Return the values that a label of a metric has."""
        return {sample.labels[label] for sample in self.samples if sample.name == name}

    def counters(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return what must not go back."""
        return {(s.name, frozenset(s.labels.items())): s.value for s in self.samples if s.adds_up}


class Scraper:
    """Scrapes one port, and notes when a counter goes back or vanishes."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/metrics"
        self.went_back: list[object] = []
        self.scrapes = 0
        self._seen: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def get(self) -> Scrape:
        """Return the page as it is now."""
        with urllib.request.urlopen(self.url, timeout=PATIENCE) as answer:  # noqa: S310 - a page of ours
            scrape = Scrape(answer.read().decode())
        self.scrapes += 1
        counters = scrape.counters()
        self.went_back += [(key, value, counters.get(key)) for key, value in self._seen.items()
                           if counters.get(key, -1.0) < value]  # fmt: skip
        self._seen |= counters
        return scrape

    def until(self, holds: Callable[[Scrape], object], what: str, within: float = PATIENCE) -> Scrape:
        """Return the first page of which something holds."""

        def look() -> Scrape | None:
            try:
                scrape = self.get()
            except (OSError, http.client.HTTPException):  # there is no page yet
                return None
            return scrape if holds(scrape) else None

        found = eventually(look, f"{what} in {self.url}", within)
        assert found is not None
        return found

    def until_value(self, value: float, name: str, **labels: str) -> Scrape:
        """Return the first page on which a sum is so much."""
        return self.until(lambda scrape: scrape.value(name, **labels) == value, f"{name}{labels} = {value:g}")
