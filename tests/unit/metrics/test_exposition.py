"""What prometheus_client makes of values: for the default registry, and as a page."""

import subprocess
import sys
from decimal import Decimal

import pytest
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    Summary,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from django_vtasks.metrics import exposition, projects, tally
from django_vtasks.metrics.catalogue import CATALOGUE
from django_vtasks.metrics.exposition import Collector, Page
from django_vtasks.metrics.snapshot import Snapshot
from django_vtasks.metrics.tally import Key, Value
from django_vtasks.metrics.totals import Totals
from tests.integration.scrapes import Scrape

VALUES: dict[Key, Value] = {
    ("vtasks_tasks_processed", ("shop.tasks.sell", "default", "success")): 3,
    ("vtasks_task_duration_seconds", ("shop.tasks.sell", "default")): (2, 1, *[0] * 13, 1, 301.5),
    ("vtasks_active_tasks", ("default",)): 1,
    ("vtasks_scheduler_lateness_seconds", ()): (*[0] * 11, 1, 90.0),
}


def page(*sources, project=dict):
    return Page(sources, project)


def test_a_page_has_all_kinds():
    body, content_type = page(lambda: VALUES).render("")
    scrape = Scrape(body.decode())

    assert content_type.startswith("text/plain; version=0.0.4")
    assert scrape.value("vtasks_tasks_processed_total", status="success") == 3
    assert scrape.value("vtasks_task_duration_seconds_bucket", le="0.001") == 2
    assert scrape.value("vtasks_task_duration_seconds_bucket", le="0.005") == 3
    assert scrape.value("vtasks_task_duration_seconds_bucket", le="+Inf") == 4
    assert scrape.value("vtasks_task_duration_seconds_count") == 4
    assert scrape.value("vtasks_task_duration_seconds_sum") == 301.5
    assert scrape.value("vtasks_active_tasks", queue="default") == 1
    assert scrape.value("vtasks_scheduler_lateness_seconds_bucket", le="+Inf") == 1


def test_a_scraper_may_ask_for_openmetrics():
    body, content_type = page(lambda: VALUES).render("application/openmetrics-text; version=1.0.0,text/plain;q=0.5")

    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    assert "vtasks_tasks_processed" in {family.name for family in parse_openmetrics(body.decode())}


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_the_page_says_what_prometheus_client_would(accept):
    odd: dict[Key, Value] = {("vtasks_active_tasks", ('back\\slash "quote"\nline',)): 1.5, ("vtasks_reporter", ()): 1}
    registry = CollectorRegistry()
    registry.register(Collector(lambda: VALUES | odd))
    theirs, content_type = exposition.default_page(accept, registry)
    ours, same_type = page(lambda: VALUES | odd).render(accept)

    assert same_type == content_type
    assert _meaning(ours, accept) == _meaning(theirs, accept)
    heads = {line for line in theirs.decode().splitlines() if line.startswith("#")}
    assert {line for line in ours.decode().splitlines() if line.startswith("#")} == heads


def _meaning(body, accept):
    parse = parse_openmetrics if accept else parse_text
    return {
        (family.name, family.type, family.documentation): {
            (sample.name, *sorted(sample.labels.items())): sample.value for sample in family.samples
        }
        for family in parse(body.decode())
    }


def test_sources_add_up():
    scrape = Scrape(page(lambda: VALUES, lambda: VALUES).render("")[0].decode())

    assert scrape.value("vtasks_tasks_processed_total") == 6
    assert scrape.value("vtasks_task_duration_seconds_count") == 8


def test_labels_are_shown_whatever_they_hold():
    odd = 'back\\slash "quote"\nline'
    scrape = Scrape(page(lambda: {("vtasks_active_tasks", (odd,)): 1}).render("")[0].decode())

    assert scrape.labels("vtasks_active_tasks", "queue") == {odd}


def test_the_app_has_registered_this_process_once():
    tally.submitted["shop.tasks.registered", "default"].value += 2
    exposition.register()
    exposition.register()

    found = [metric for metric in REGISTRY.collect() if metric.name == "vtasks_tasks_submitted"]
    assert len(found) == 1
    labels = {"task_name": "shop.tasks.registered", "queue": "default"}
    assert REGISTRY.get_sample_value("vtasks_tasks_submitted_total", labels) == 2


def test_names_that_somebody_else_has_taken_are_said_and_harm_nobody(monkeypatch, caplog):
    monkeypatch.setattr(exposition, "process", Collector())  # another one of the same names
    exposition.register()

    assert "No metrics in the default registry: Duplicated timeseries" in caplog.text


def test_another_metric_of_a_name_of_ours_is_refused_by_the_registry():
    registry = CollectorRegistry()
    registry.register(Collector())
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Gauge("vtasks_queue_depth", "Somebody else's.", registry=registry)


def test_every_family_is_described():
    described = {metric.name: metric.type for metric in Collector().describe()}

    assert described == {family.name: family.kind for family in CATALOGUE}


class TestProjects:
    @pytest.fixture
    def registry(self):
        registry = CollectorRegistry()
        Counter("shop_sales", "Sales.", ["kind"], registry=registry).labels("book").inc(2)
        Gauge("shop_stock", "Stock.", registry=registry).set(7)
        histogram = Histogram("shop_price_euros", "Prices.", buckets=[1, 10], registry=registry)
        histogram.observe(5)
        Summary("shop_weight", "Weights.", registry=registry).observe(3)
        Info("shop_build", "Build.", registry=registry).info({"version": "1"})
        Enum("shop_state", "State.", states=["open", "closed"], registry=registry).state("open")
        registry.register(Collector(lambda: VALUES))
        return registry

    def test_all_kinds_of_two_processes_on_one_page(self, registry):
        totals = Totals()
        for number in (1, 2):
            totals.note(f"default#{number}", 1, Snapshot(project=projects.read(registry.collect())))
        text = page(lambda: VALUES, project=totals.project).render("")[0].decode()
        scrape = Scrape(text)

        assert scrape.value("shop_sales_total", kind="book") == 4
        assert scrape.value("shop_price_euros_bucket", le="10.0") == 2
        assert scrape.value("shop_price_euros_sum") == 10
        assert scrape.value("shop_weight_count") == 2
        assert scrape.value("shop_stock", actor="default#2") == 7
        assert scrape.value("shop_build_info", version="1", actor="default#1") == 1
        assert scrape.value("shop_state", shop_state="open", actor="default#1") == 1
        assert scrape.value("vtasks_tasks_processed_total") == 3, "ours are not counted twice"
        assert "_created" not in text

    def test_what_prometheus_client_tells_unasked_is_left_out_and_nothing_that_is_called_alike(self):
        registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        assert len(list(registry.collect())) > 3
        Counter("process_images", "Images.", registry=registry).inc()
        Gauge("python_scripts", "Scripts.", registry=registry).set(1)

        assert projects.read(registry.collect()).keys() == {"process_images", "python_scripts"}

    def test_values_of_any_type_become_what_can_travel(self):
        class Odd:
            def collect(self):
                yield GaugeMetricFamily("shop_odd", "Odd.", value=Decimal("1.5"))  # type: ignore[arg-type] # as somebody may

        registry = CollectorRegistry()
        registry.register(Odd())
        [family] = projects.read(registry.collect()).values()

        assert {type(value) for value in family.samples.values()} == {float}

    def test_openmetrics_has_them_too(self, registry):
        totals = Totals()
        totals.note("default#1", 1, Snapshot(project=projects.read(registry.collect())))
        body, _ = page(dict, project=totals.project).render("application/openmetrics-text; version=1.0.0")

        assert {"shop_sales", "shop_stock", "shop_price_euros", "shop_build"} <= {
            family.name for family in parse_openmetrics(body.decode())
        }


def test_the_multiprocess_mode_of_prometheus_client_is_left_to_itself(tmp_path):
    """What all processes have written to its files is on the page, and nothing is added up twice."""
    program = """
import os, sys
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
from prometheus_client import Counter
Counter("shop_sales", "Sales.").inc(3)
from django_vtasks.metrics import exposition, projects
assert projects.collect() == {}
page = exposition.Page([lambda: {("vtasks_active_tasks", ("default",)): 1}], projects.collect)
print(page.render("")[0].decode())
exposition.forget_process(os.getpid())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, timeout=30
    )
    scrape = Scrape(done.stdout)

    assert scrape.value("shop_sales_total") == 3
    assert scrape.value("vtasks_active_tasks") == 1
