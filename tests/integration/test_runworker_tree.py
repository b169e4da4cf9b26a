"""The tree of processes: which there are, what the worker says of them, and what it refuses."""

import pytest

from tests.integration.probes import eventually
from tests.workapp import tasks

QUEUES = '{"mail": {"processes": 2, "concurrency": 1}, "images": {"concurrency": 3}}'


@pytest.fixture
def queues(stage, settings):
    settings(VTASKS_QUEUES=["mail", "images"])
    stage.environment["VTASKS_QUEUES"] = QUEUES


def has_actors(worker, *names):
    eventually(lambda: worker.actors().keys() == set(names), f"the actors {names} and no others")


@pytest.mark.usefixtures("queues")
class TestActors:
    def test_each_queue_has_its_own_processes_and_their_titles_say_which(self, stage):
        worker = stage.worker()

        has_actors(worker, "default#1", "images#1", "mail#1", "mail#2")
        titles = [
            " ".join(process.cmdline()).strip() for process in worker.processes() if process.pid == worker.process.pid
        ]
        assert titles == ["vtasks: supervisor"]
        assert len(set(worker.actors().values())) == 4

    def test_the_processes_of_a_queue_share_its_tasks(self, stage):
        for number in range(3):
            tasks.hold.using(queue_name="mail").enqueue(f"held{number}")
        worker = stage.worker()
        stage.ledger.wait_for("held0", "held1")

        actors = worker.actors()
        ran_by = {stage.ledger.read(key)[0]["pid"] for key in ("held0", "held1")}
        assert ran_by == {actors["mail#1"], actors["mail#2"]}
        assert "held2" not in stage.ledger.counts()
        slots = {stage.ledger.read(key)[0]["worker"].split(":")[1] for key in ("held0", "held1")}
        assert slots == {"mail#1", "mail#2"}
        stage.ledger.open("held0", "held1", "held2")
        stage.until_empty()

    def test_the_command_line_is_above_the_settings(self, stage):
        worker = stage.worker("--processes", "2", "--queue", "images", "--queue", "mail")

        has_actors(worker, "images#1", "images#2", "mail#1", "mail#2")

    @pytest.mark.parametrize("alias", ["default", "postgres"], indirect=True, ids=["sqlite", "postgresql"])
    def test_the_worker_begins_with_a_table_of_what_it_is_going_to_do(self, stage, alias):
        worker = stage.worker("--id", "alpha")
        worker.until_it_says("database connections: up to")

        lines = [line.split() for line in worker.log.splitlines()]
        assert ["queue", "processes", "concurrency"] in lines
        for row in (["default", "1", "20"], ["images", "1", "3"], ["mail", "2", "1"]):
            assert row in lines
        [title] = worker.log_lines("django-vtasks", "backend default", "node alpha-")
        assert title
        [connections] = worker.log_lines("database connections: up to")
        # One for each task that may run, two for each of the four actors, two for the supervisor.
        assert "up to 35" in connections
        assert connections.endswith("that the server allows") == (alias == "postgres")


@pytest.mark.parametrize("alias", ["postgres"], indirect=True, ids=["postgresql"])
def test_what_may_be_too_many_connections_is_a_warning(stage):
    worker = stage.worker("--concurrency", "500")

    worker.until_it_says("This worker may open 504 database connections, and the server allows")


@pytest.mark.parametrize(
    ("options", "environment", "names"),
    [
        (["--processes", "0"], {}, ["--processes", "'0'"]),
        (["--processes", "x"], {}, ["--processes", "'x'"]),
        (["--processes", "2", "--queue", "mails"], {"VTASKS_QUEUES": "mail"}, ["'mails'", "'mail'"]),
        ([], {"VTASKS_PROCESSES": "0"}, ["VTASKS_PROCESSES", "'0'"]),
        ([], {"VTASKS_QUEUES": '{"mail": {"processes": 0}}'}, ["VTASKS_QUEUES", "processes", "'mail'"]),
    ],
    ids=["processes 0", "processes x", "a queue nobody knows", "the setting 0", "a queue's own 0"],
)
def test_what_cannot_be_is_said_in_one_line_and_the_exit_code_is_2(stage, options, environment, names):
    worker = stage.start(*options, **environment)

    assert worker.exit_code() == 2, worker.log
    [line] = worker.log.strip().splitlines()
    for name in names:
        assert name in line


def test_auto_starts_at_least_one_process(stage):
    worker = stage.worker("--processes", "auto")
    tasks.note.enqueue("ran")

    stage.ledger.wait_for("ran")
    assert worker.actors().keys() >= {"default#1"}
