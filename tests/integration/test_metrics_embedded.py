"""A process that serves pages shows its metrics in the default registry: django-prometheus's page has them."""

import urllib.request

import pytest

from tests.integration.scrapes import Scraper
from tests.integration.test_embedded import GRANIAN, UVICORN, Site
from tests.workapp import tasks

PROCESSED = "vtasks_tasks_processed_total"


@pytest.fixture
def serve(stage):
    def serve(command=UVICORN, **environment):
        return Site(stage, command, **environment).until_serving().until_working()

    return serve


@pytest.mark.parametrize("command", [UVICORN, GRANIAN], ids=["uvicorn", "granian"])
def test_an_embedded_worker_s_are_on_the_page_of_the_site(serve, stage, command):
    site = serve(command, VTASKS_LEASE="1.5")
    scraper = Scraper(site.port)
    for number in range(5):
        site.get(f"/enqueue/note/n-{number}/")
        site.get(f"/aenqueue/anote/a-{number}/")
    stage.until_empty()
    scrape = scraper.until_value(10, PROCESSED, status="success")

    assert scrape.value("vtasks_tasks_submitted_total", task_name=tasks.note.module_path) == 5
    assert scrape.value("vtasks_tasks_submitted_total", task_name=tasks.anote.module_path) == 5
    assert scrape.value("vtasks_actor_up", actor="default#1") == 1
    assert (
        scrape.text.count("# TYPE vtasks_tasks_processed counter")
        + scrape.text.count("# TYPE vtasks_tasks_processed_total counter")
        == 1
    )
    scrape = scraper.until_value(1, "vtasks_reporter")
    assert scrape.value("vtasks_queue_depth", queue="default") == 0
    assert scraper.went_back == []


def test_whom_nobody_scrapes_does_not_stand_for_the_lead(serve, stage):
    site = serve(VTASKS_LEASE="1.5")
    site.get("/enqueue/note/ran/")
    stage.until_empty()
    assert stage.broker.leader("metrics") is None
    Scraper(site.port).until_value(1, "vtasks_reporter")
    assert stage.broker.leader("metrics") is not None


def test_with_a_port_of_its_own_it_serves_the_same_registry(serve, stage):
    from tests.servers import free_port

    port = free_port()
    site = serve(VTASKS_METRICS_PORT=str(port))
    site.get("/enqueue/note/ran/")
    stage.until_empty()
    scrape = Scraper(port).until_value(1, PROCESSED)
    assert scrape.value("vtasks_tasks_submitted_total") == 1
    assert "python_info" in scrape.text, "the registry of the process"


def test_a_process_without_a_worker_shows_what_it_enqueues(stage):
    """As under gunicorn, where another process is the worker."""
    with_worker_elsewhere = Site(
        stage, ("-m", "uvicorn", "tests.workapp.pages:application"), DJANGO_SETTINGS_MODULE="tests.settings"
    ).until_serving()
    with_worker_elsewhere.get("/enqueue/note/waits/")
    scrape = Scraper(with_worker_elsewhere.port).get()

    assert scrape.value("vtasks_tasks_submitted_total", task_name=tasks.note.module_path, queue="default") == 1
    assert scrape.value(PROCESSED) is None
    assert stage.size() == 1


def test_with_the_app_of_django_prometheus_installed(stage):
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.projects",
        "TEST_APPS": "django_prometheus tests.workapp",
    }
    site = Site(stage, UVICORN, **environment).until_serving().until_working()
    site.get("/enqueue/note/ran/")
    stage.until_empty()
    scrape = Scraper(site.port).until_value(1, PROCESSED)
    assert "django_" in scrape.text
    with urllib.request.urlopen(f"http://127.0.0.1:{site.port}/metrics", timeout=20) as answer:
        assert answer.status == 200
