"""A real Prometheus scrapes a worker while its actors are killed, and understands what this package ships for it."""

import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from importlib.resources import files
from pathlib import Path

import pytest

from django_vtasks.metrics.catalogue import CATALOGUE, COUNTER, HISTOGRAM
from tests import servers
from tests.databases import require_server
from tests.integration.probes import PATIENCE, eventually
from tests.servers import free_port
from tests.workapp import tasks

SHIPPED = files("django_vtasks.metrics")
ALERTS = Path(str(SHIPPED / "alerts.yml"))
DASHBOARD = json.loads((SHIPPED / "grafana-dashboard.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
SECONDS = 0.05


class Prometheus:
    """Its API, and the file in which it finds whom to scrape."""

    def __init__(self, addresses):
        self._url = addresses["TEST_PROMETHEUS_URL"]
        self._targets = Path(addresses["TEST_PROMETHEUS_TARGETS"])

    def scrape(self, *ports):
        draft = self._targets.with_suffix(".draft")
        draft.write_text(json.dumps([{"targets": [f"127.0.0.1:{port}" for port in ports]}]))
        draft.chmod(0o644)
        draft.rename(self._targets)

    def ask(self, expression):
        """Return the values of an instant query."""
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self._url}/api/v1/query?{query}", timeout=PATIENCE) as answer:  # noqa: S310 - ours
            body = json.load(answer)
        assert body["status"] == "success"
        return [float(result["value"][1]) for result in body["data"]["result"]]

    def understands(self, expression):
        try:
            self.ask(expression)
        except urllib.error.HTTPError:
            return False
        return True

    def until(self, expression, value):
        eventually(lambda: self.ask(expression) == [value], f"{expression} is {value} in Prometheus")


@pytest.fixture
def prometheus():
    require_server("prometheus")
    with servers.running("prometheus") as addresses:
        yield Prometheus(addresses)


def test_it_sees_right_sums_that_never_go_back_while_actors_are_killed(stage, prometheus):
    port = free_port()
    prometheus.scrape(port)
    worker = stage.worker("--processes", "2", "--metrics-port", str(port))
    prometheus.until("sum(vtasks_actor_up)", 2)
    _enqueue(stage, "first", 400)
    stage.until_empty()
    prometheus.until("sum(vtasks_tasks_processed_total)", 400)
    for _ in range(2):
        _kill_one(worker)  # idle: all that it has counted is told
    _enqueue(stage, "second", 200)
    stage.until_empty()
    prometheus.until("sum(vtasks_tasks_processed_total)", 600)
    _enqueue(stage, "third", 1000)
    for _ in range(2):
        _kill_one(worker)  # at work: it takes along what it has counted since its last word
    stage.until_empty()

    prometheus.until('sum(vtasks_actor_restarts_total{cause="crashed"})', 4)
    prometheus.until("sum(vtasks_active_tasks)", 0)
    [processed] = prometheus.ask("sum(vtasks_tasks_processed_total)")
    assert 1600 - 2 * 20 / SECONDS <= processed <= 1600
    assert {name: prometheus.ask(f"sum(resets({name}[5m]))") for name in _series() if _adds_up(name)} == {
        name: [0] if prometheus.ask(name) else [] for name in _series() if _adds_up(name)
    }
    # In one question: the last report may come between two.
    prometheus.until("sum(vtasks_task_duration_seconds_count) - sum(vtasks_tasks_processed_total)", 0)
    prometheus.until("sum(vtasks_queue_depth)", 0)
    assert prometheus.ask("sum(increase(vtasks_tasks_rescued_total[5m]))")[0] > 0
    assert [expression for expression in map(_filled_in, EXPRESSIONS) if not prometheus.understands(expression)] == []


def test_of_two_workers_one_tells_of_the_store(stage, prometheus):
    ports = free_port(), free_port()
    prometheus.scrape(*ports)
    workers = [stage.worker("--metrics-port", str(port), VTASKS_LEASE="1.5") for port in ports]
    prometheus.until("count(vtasks_reporter)", 2)
    prometheus.until("sum(vtasks_reporter)", 1)
    for worker in workers:
        worker.send(signal.SIGTSTP)
        worker.until_it_says("takes no new tasks")
    for number in range(7):
        tasks.note.enqueue(f"waits-{number}")

    prometheus.until('sum(vtasks_queue_depth{queue="default"})', 7)


def test_the_alert_rules_are_rules():
    require_server("prometheus")
    checked = subprocess.run(
        [servers.find("promtool") or "", "check", "rules", str(ALERTS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "10 rules found" in checked.stdout


@pytest.mark.parametrize("source", ["dashboard", "alerts"])
def test_what_is_shipped_asks_for_series_that_there_are(source):
    text = "\n".join(EXPRESSIONS) if source == "dashboard" else ALERTS.read_text()
    asked = set(re.findall(r"\bvtasks_\w+", text))

    assert asked
    assert asked - _series() == set()


def test_the_dashboard_shows_every_family():
    text = "\n".join(EXPRESSIONS)

    assert [family.name for family in CATALOGUE if family.name not in text] == []


def test_the_labels_that_are_asked_for_exist():
    known = {label for family in CATALOGUE for label in family.labels} | {"le", "instance"}
    text = "\n".join(EXPRESSIONS) + ALERTS.read_text()
    groups = re.findall(r"\bby \(([^)]*)\)", text)
    matchers = re.findall(r"[{,]\s*(\w+)\s*[=!]~?\"", text)

    assert {label.strip() for group in groups for label in group.split(",")} | set(matchers) <= known


def _series():
    names = set()
    for family in CATALOGUE:
        endings = {COUNTER: ["_total"], HISTOGRAM: ["_bucket", "_sum", "_count"]}.get(family.kind, [""])
        names |= {family.name + ending for ending in endings}
    return names


def _filled_in(expression):
    return expression.replace("$__rate_interval", "1m")


def _adds_up(name):
    return name.endswith(("_total", "_bucket", "_sum", "_count"))


def _enqueue(stage, name, count):
    stage.enqueue_many([(tasks.work, (f"{name}-{number}", SECONDS), {}) for number in range(count)])


def _kill_one(worker):
    before = worker.log.count("takes tasks of")
    os.kill(next(iter(worker.actors().values())), signal.SIGKILL)
    worker.until_it_says("takes tasks of", times=before + 1)
