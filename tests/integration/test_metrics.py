"""The metrics of a real worker: right sums whatever happens to actors, and no harm by whoever scrapes."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
from datetime import timedelta

import pytest
from django.utils import timezone

from tests import servers
from tests.batchapp import tasks as batches
from tests.databases import require_server
from tests.integration.pages import Pages
from tests.integration.probes import eventually
from tests.integration.projects import HEAD, Project, call
from tests.integration.scrapes import Scraper
from tests.servers import free_port
from tests.workapp import tasks

STORES = pytest.mark.parametrize(
    "alias", ["default", "postgres", "mariadb", "valkey"], indirect=True,
    ids=["sqlite", "postgresql", "mariadb", "valkey"],
)  # fmt: skip
PROCESSED = "vtasks_tasks_processed_total"
LEASE = 1.5
SECONDS = 0.08


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def scraper(port):
    return Scraper(port)


@pytest.fixture
def worker(stage, port):
    return stage.worker("--processes", "2", "--metrics-port", str(port))


@STORES
class TestSums:
    def test_of_two_processes_are_those_of_the_ledger(self, stage, worker, scraper):
        for number in range(20):
            tasks.note.enqueue(f"a-{number}")
            tasks.anote.enqueue(f"b-{number}")
        for _ in range(3):
            tasks.fail.enqueue("ValueError")
        stage.until_empty()
        scrape = scraper.until_value(43, PROCESSED)

        assert sum(stage.ledger.counts().values()) == 40
        assert scrape.value(PROCESSED, task_name=tasks.note.module_path, queue="default", status="success") == 20
        assert scrape.value(PROCESSED, task_name=tasks.anote.module_path, status="success") == 20
        assert scrape.value(PROCESSED, task_name=tasks.fail.module_path, status="failure") == 3
        assert scrape.value(PROCESSED, status="failure") == 3
        assert scrape.value("vtasks_task_duration_seconds_count") == 43
        assert scrape.value("vtasks_settle_duration_seconds_count", queue="default") > 0
        assert scrape.value("vtasks_actor_up") == 2
        assert scrape.labels("vtasks_actor_memory_bytes", "actor") == {"default#1", "default#2", "supervisor"}
        assert all(2**20 < s.value < 2**30 for s in scrape.samples if s.name == "vtasks_actor_memory_bytes")

    def test_of_what_stands_in_the_store(self, stage, port, scraper):
        worker = stage.worker("--processes", "2", "--metrics-port", str(port), VTASKS_LEASE=str(LEASE))
        worker.until_it_says("takes tasks of", times=2)
        worker.send(signal.SIGTSTP)
        worker.until_it_says("takes no new tasks", times=2)
        for number in range(3):
            tasks.note.enqueue(f"waits-{number}")
        tasks.note.using(run_after=_in_an_hour()).enqueue("later")
        scrape = scraper.until_value(3, "vtasks_queue_depth", queue="default")

        assert scrape.value("vtasks_queue_delayed_tasks", queue="default") == 1
        assert scrape.value("vtasks_reporter") == 1
        assert scrape.value("vtasks_failed_tasks") == 0
        assert scrape.value("vtasks_failed_evictions_total") == 0
        scraper.until(lambda scrape: scrape.value("vtasks_queue_oldest_seconds", queue="default") > 1, "an age")
        worker.send(signal.SIGCONT)
        scrape = scraper.until_value(0, "vtasks_queue_depth", queue="default")
        assert scrape.value("vtasks_queue_oldest_seconds", queue="default") == 0

    def test_one_of_two_workers_tells_of_the_store_and_another_follows(self, stage):
        first, second = free_port(), free_port()
        workers = {port: stage.worker("--metrics-port", str(port), VTASKS_LEASE=str(LEASE)) for port in (first, second)}
        scrapers = {port: Scraper(port) for port in workers}
        leader = _leader(scrapers)
        other = second if leader == first else first
        for _ in range(5):
            depths = [scraper.get().value("vtasks_queue_depth") for scraper in scrapers.values()]
            assert sorted(depths, key=str) == [0, None]
        workers[leader].send(signal.SIGTERM)
        assert workers[leader].exit_code() == 0
        scrapers[other].until_value(1, "vtasks_reporter")

        third = stage.worker("--metrics-port", str(leader), VTASKS_LEASE=str(LEASE))
        assert third.is_running
        scrapers[leader].until_value(0, "vtasks_reporter")
        workers[other].kill()
        scrape = scrapers[leader].until_value(1, "vtasks_reporter")
        assert scrape.value("vtasks_queue_depth") == 0


class TestKilledActors:
    def test_take_nothing_along_that_they_have_told(self, stage, worker, scraper):
        for number in range(30):
            tasks.note.enqueue(f"before-{number}")
        scraper.until_value(30, PROCESSED)
        for pid in worker.actors().values():
            os.kill(pid, signal.SIGKILL)
        worker.until_it_says("takes tasks of", times=4)
        for number in range(20):
            tasks.note.enqueue(f"after-{number}")
        scrape = scraper.until_value(50, PROCESSED)

        assert sum(stage.ledger.counts().values()) == 50
        assert scrape.value("vtasks_actor_restarts_total", cause="crashed") == 2
        assert scrape.value("vtasks_actor_restarts_total") == 2
        assert scrape.value("vtasks_actor_up") == 2
        assert scraper.went_back == []

    def test_under_load_cost_a_second_of_counts_at_most_and_no_counter_goes_back(
        self, stage, worker, scraper, settings
    ):
        settings(VTASKS_MAX_RESCUES=50)  # chance may kill the actor of the suspects, too
        total, kills, chance = 1500, 0, random.Random(7)
        stage.enqueue_many([(tasks.work, (f"work-{number}", SECONDS), {}) for number in range(total)])
        while stage.size():
            scraper.get()
            if kills < 4 and scraper.scrapes % 10 == 0 and (actors := list(worker.actors().values())):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(actors), signal.SIGKILL)
                    kills += 1
        assert kills > 1
        last = scraper.until(lambda scrape: scrape.value("vtasks_active_tasks") == 0, "nothing runs")
        most_in_a_second = 20 / SECONDS
        processed = last.value(PROCESSED, status="success")

        assert total - kills * most_in_a_second <= processed <= total
        assert processed > 0
        assert stage.failed() == {}
        assert last.value("vtasks_actor_restarts_total", cause="crashed") == kills
        assert scraper.went_back == []

    def test_let_their_tasks_be_counted_as_rescued_and_as_in_flight(self, stage, worker, scraper):
        tasks.hold.enqueue("held")
        [entry] = stage.ledger.wait_for("held")
        scraper.until_value(1, "vtasks_active_tasks", queue="default")
        scraper.until_value(1, "vtasks_in_flight_tasks", queue="default")
        os.kill(entry["pid"], signal.SIGKILL)
        scrape = scraper.until_value(1, "vtasks_tasks_rescued_total", cause="actor died")
        assert scrape.value("vtasks_tasks_given_up_total") == 0
        scraper.until_value(1, "vtasks_active_tasks", queue="default")
        stage.ledger.open("held")
        scraper.until_value(0, "vtasks_active_tasks", queue="default")
        scraper.until_value(1, PROCESSED, task_name=tasks.hold.module_path)
        assert scraper.went_back == []

    def test_of_a_worker_that_vanished_let_another_count_its_tasks(self, stage, port, scraper):
        vanishing = stage.worker(VTASKS_LEASE=str(LEASE))
        tasks.hold.enqueue("held")
        stage.ledger.wait_for("held")
        stage.worker("--metrics-port", str(port), VTASKS_LEASE=str(LEASE))
        vanishing.kill()
        scraper.until_value(1, "vtasks_tasks_rescued_total", cause="worker vanished")
        stage.ledger.open("held")


class TestWhatIsCounted:
    def test_tasks_that_tasks_enqueue(self, stage, worker, scraper):
        tasks.spawn.enqueue("x", 4)
        stage.until_empty()
        scraper.until_value(4, "vtasks_tasks_submitted_total", task_name=tasks.spawn.module_path, queue="default")
        scraper.until_value(5, PROCESSED, task_name=tasks.spawn.module_path)

    def test_tasks_that_nobody_knows_have_one_name(self, stage, worker, scraper):
        stage.broker.push([call(f"nowhere.tasks.task_{number}") for number in range(5)])
        scrape = scraper.until_value(5, PROCESSED, task_name="unknown", status="failure")
        assert scrape.labels(PROCESSED, "task_name") == {"unknown"}

    def test_members_of_batches(self, stage, port, scraper, settings):
        environment = {"VTASKS_BATCH_QUEUES": json.dumps({"widgets": {"count": 5, "timeout": 0.2}})}
        settings(VTASKS_BATCH_QUEUES={"widgets": {}})
        stage.worker("--metrics-port", str(port), **environment)
        stage.enqueue_many([(batches.collect.using(queue_name="widgets"), (), {"number": n}) for n in range(12)])
        scrape = scraper.until_value(12, PROCESSED, queue="widgets", status="success")
        assert scrape.value("vtasks_task_duration_seconds_count", queue="widgets") == 12

    def test_slots_of_the_schedule_and_how_late_they_are(self, stage, port, scraper):
        schedule = {"tick": {"task": tasks.note.module_path, "schedule": 0.5, "args": ["tick"]}}
        stage.worker("--scheduler", "--metrics-port", str(port), VTASKS_SCHEDULE=json.dumps(schedule))
        scrape = scraper.until(lambda s: (s.value("vtasks_tasks_submitted_total") or 0) >= 2, "two slots")
        assert scrape.value("vtasks_scheduler_lateness_seconds_count") == scrape.value("vtasks_tasks_submitted_total")
        assert scrape.value("vtasks_scheduler_lateness_seconds_sum") < 5 * scrape.value("vtasks_tasks_submitted_total")

    def test_the_project_s_own_metrics_of_all_processes(self, stage, tmp_path, port, scraper):
        project = Project(tmp_path / "project", "tests.workapp")
        project.app("shop", OWN_METRICS)
        stage.environment |= project.environment
        worker = stage.worker("--processes", "2", "--metrics-port", str(port))
        stage.broker.push([call("shop.tasks.sell", number) for number in range(40)])
        scraper.until_value(40, "shop_sales_total", kind="book")
        scrape = scraper.until_value(40, "shop_price_euros_count")
        assert scrape.value("shop_price_euros_sum") == sum(range(40))
        assert scrape.labels("shop_last_sale", "actor") <= {"default#1", "default#2"}
        assert "shop_sales_created" not in scrape.text
        assert "python_info" not in scrape.text
        for pid in worker.actors().values():
            os.kill(pid, signal.SIGKILL)
        worker.until_it_says("takes tasks of", times=4)
        scrape = scraper.until(lambda s: s.value("vtasks_actor_up") == 2, "both actors are back")
        assert scrape.value("shop_sales_total") == 40
        stage.broker.push([call("shop.tasks.sell", 1)])
        scrape = scraper.until_value(41, "shop_sales_total")
        assert len(scrape.labels("shop_last_sale", "actor")) == 1, "a dead actor's gauges are gone"
        assert scraper.went_back == []


class TestBadInput:
    def test_a_port_in_use_costs_the_metrics_and_nothing_else(self, stage):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            worker = stage.worker("--metrics-port", str(port))
            tasks.note.enqueue("ran")
            stage.ledger.wait_for("ran")

        assert len(worker.log_lines("ERROR No metrics", f":{port}", "Address already in use")) == 1

    def test_of_two_workers_on_one_port_the_second_says_so_and_tells_of_no_store(self, stage, port, scraper):
        worker = stage.worker("--metrics-port", str(port), VTASKS_LEASE=str(LEASE))
        scraper.until_value(1, "vtasks_reporter")
        second = stage.worker("--metrics-port", str(port), VTASKS_LEASE=str(LEASE))
        second.until_it_says("No metrics:")
        worker.kill()
        eventually(lambda: stage.broker.leader("metrics") is None, "the lead of the first has run out")
        tasks.note.enqueue("ran")
        stage.ledger.wait_for("ran")

        assert len(second.log_lines("ERROR No metrics", f":{port}", "Address already in use")) == 1
        assert stage.broker.leader("metrics") is None, "who cannot be scraped does not look"

    def test_without_prometheus_client_one_line_says_what_to_install(self, stage, port, tmp_path):
        blocked = tmp_path / "blocked"
        blocked.mkdir()
        (blocked / "sitecustomize.py").write_text("import sys\nsys.modules['prometheus_client'] = None\n")
        worker = stage.worker("--metrics-port", str(port), PYTHONPATH=str(blocked), TEST_WITHOUT_PAGES="1")
        tasks.note.enqueue("ran")
        stage.ledger.wait_for("ran")

        assert len(worker.log_lines("ERROR No metrics", 'pip install "django-vtasks[metrics]"')) == 1
        assert Pages(port).status("/metrics") == 0

    def test_scrapers_that_never_read_hold_up_nobody_for_long(self, stage, worker, port, scraper):
        scraper.until_value(2, "vtasks_actor_up")
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                silent = stack.enter_context(socket.socket())
                silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
                silent.connect(("127.0.0.1", port))
                silent.send(b"GET /metrics HTTP/1.0\r\n\r\n" * 10)
            for number in range(20):
                tasks.note.enqueue(f"ran-{number}")
            stage.until_empty()
            scraper.until_value(20, PROCESSED)
        assert worker.is_running

    def test_a_wrong_port_ends_the_command(self, stage):
        worker = stage.start("--metrics-port", "70000")
        assert worker.exit_code() == 2
        assert "invalid port number value: '70000'" in worker.log


class TestPages:
    def test_health_and_metrics_may_share_a_port(self, stage, port, scraper):
        stage.worker("--metrics-port", str(port), VTASKS_HEALTH_PORT=str(port))
        scraper.until_value(1, "vtasks_actor_up")
        assert Pages(port).status("/live") == 200

    def test_the_setting_may_be_overruled(self, stage, port):
        stage.worker("--metrics-port", "0", VTASKS_METRICS_PORT=str(port))
        assert Pages(port).status("/metrics") == 0

    def test_promtool_finds_nothing_to_say(self, stage, worker, scraper):
        require_server("prometheus")
        tasks.note.enqueue("ran")
        scrape = scraper.until(lambda s: s.value(PROCESSED) and s.value("vtasks_queue_depth") is not None, "a task")
        checked = subprocess.run(
            [servers.find("promtool") or "", "check", "metrics"],
            input=scrape.text,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


OWN_METRICS = f"""from prometheus_client import Counter, Gauge, Histogram

{HEAD}
sales = Counter("shop_sales", "Sales.", ["kind"])
prices = Histogram("shop_price_euros", "Prices.", buckets=[1, 10])
last = Gauge("shop_last_sale", "Number of the last sale.")


@task
def sell(number):
    sales.labels("book").inc()
    prices.observe(number)
    last.set(number)
"""


def _leader(scrapers):
    def leader():
        leaders = [port for port, scraper in scrapers.items() if scraper.get().value("vtasks_reporter")]
        return leaders[0] if len(leaders) == 1 else None

    return eventually(leader, "one reporter")


def _in_an_hour():
    return timezone.now() + timedelta(hours=1)
