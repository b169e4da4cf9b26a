"""The command: tasks run, nothing is left, the log says so, and what cannot be done is said in one line."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from tests.workapp import tasks

everywhere = pytest.mark.parametrize(
    "alias",
    ["default", "postgres", "mariadb", "valkey"],
    indirect=True,
    ids=["sqlite", "postgresql", "mariadb", "valkey"],
)


@everywhere
class TestTasksRun:
    def test_tasks_of_every_kind_run_once_and_nothing_is_left(self, stage):
        results = [
            tasks.note.enqueue("def", 1, "two", [3, {"four": None}], five=5.5, six=True),
            tasks.anote.enqueue("async", 1, "two", [3, {"four": None}], five=5.5, six=True),
            tasks.stock_note.enqueue("stock"),
            tasks.note_context.enqueue("context"),
            tasks.anote_context.enqueue("acontext"),
            tasks.note.enqueue("text", "naïve – 漢字 – \x00 – 🧵"),
        ]
        worker = stage.worker("--id", "alpha")
        stage.until_empty()

        assert set(stage.ledger.counts().values()) == {1}
        arguments = {"args": [1, "two", [3, {"four": None}]], "kwargs": {"five": 5.5, "six": True}}
        [sync], [asynchronous] = stage.ledger.read("def"), stage.ledger.read("async")
        assert arguments.items() <= sync.items()
        assert arguments.items() <= asynchronous.items()
        assert sync["thread"] != "MainThread"
        assert asynchronous["thread"] == "MainThread"
        assert stage.ledger.read("text")[0]["args"] == ["naïve – 漢字 – \x00 – 🧵"]
        for key, result in [("context", results[3]), ("acontext", results[4])]:
            [seen] = stage.ledger.read(key)
            assert (seen["id"], seen["attempt"], seen["status"]) == (result.id, 1, "RUNNING")
            assert "alpha" in seen["workers"][0]
        assert stage.failed() == {}
        for result in results:
            [line] = worker.log_lines(f"id={result.id}")
            assert re.search(r"Task tests\.workapp\.tasks\.\w+ succeeded in \d+\.\d{3} s", line)

    def test_an_idle_worker_takes_what_is_enqueued_and_what_comes_due(self, stage):
        worker = stage.worker()
        tasks.note.using(run_after=timezone.now() + timedelta(seconds=0.5)).enqueue("delayed")
        tasks.note.enqueue("now")

        stage.ledger.wait_for("now", "delayed", within=10)
        stage.until_empty()
        assert worker.is_running


class TestBurst:
    def test_it_ends_at_once_when_there_is_nothing_to_do(self, stage):
        assert stage.start("--burst").exit_code() == 0

    @everywhere
    def test_it_runs_everything_that_its_tasks_enqueue(self, stage):
        tasks.spawn.enqueue("s", 6)
        tasks.aspawn.enqueue("a", 6)

        assert stage.start("--burst").exit_code() == 0
        expected = {letter + "x" * generation for letter in "sa" for generation in range(7)}
        assert set(stage.ledger.counts()) == expected
        assert stage.size() == 0

    def test_it_runs_what_one_queue_enqueues_into_another(self, stage, settings):
        settings(VTASKS_QUEUES=["mail"])
        for number in range(5):
            tasks.relay.enqueue(f"relayed-{number}", "mail")

        assert stage.start("--burst", VTASKS_QUEUES="mail").exit_code() == 0
        assert stage.ledger.counts().total() == 5
        assert stage.size() == 0

    def test_it_leaves_delayed_tasks_where_they_are(self, stage):
        tasks.note.using(run_after=timezone.now() + timedelta(hours=1)).enqueue("later")

        assert stage.start("--burst").exit_code() == 0
        assert stage.size() == 1

    def test_failing_tasks_do_not_keep_it_from_its_end(self, stage):
        tasks.fail.enqueue("ValueError")
        tasks.note.enqueue("other")

        assert stage.start("--burst").exit_code() == 0
        assert stage.ledger.counts() == {"other": 1}
        assert len(stage.failed()) == 1

    def test_more_tasks_than_any_buffer_holds(self, stage):
        stage.enqueue_many([(tasks.anote, (f"n{n}",), {}) for n in range(1500)])

        assert stage.start("--burst").exit_code() == 0
        assert stage.ledger.counts() == {f"n{n}": 1 for n in range(1500)}


class TestQueues:
    @pytest.fixture(autouse=True)
    def three_queues(self, stage, settings):
        settings(VTASKS_QUEUES=["mail", "images"])
        stage.environment["VTASKS_QUEUES"] = "mail,images"
        for queue in ("default", "mail", "images"):
            tasks.note.using(queue_name=queue).enqueue(queue)

    def test_without_the_option_a_worker_takes_all_queues(self, stage):
        assert stage.start("--burst").exit_code() == 0
        assert set(stage.ledger.counts()) == {"default", "mail", "images"}

    def test_the_option_may_be_repeated(self, stage):
        assert stage.start("--burst", "--queue", "mail", "--queue", "images").exit_code() == 0
        assert set(stage.ledger.counts()) == {"mail", "images"}
        assert stage.broker.queues() == ["default"]

    def test_a_queue_that_is_named_twice_is_taken_once(self, stage):
        worker = stage.start("--burst", "--queue", "mail", "--queue", "mail")
        assert worker.exit_code() == 0
        assert stage.ledger.counts() == {"mail": 1}
        assert worker.log_lines("takes tasks of")[0].endswith("takes tasks of mail")


@pytest.mark.parametrize(
    ("options", "environment", "names"),
    [
        (["--queue", "defaults"], {}, ["'defaults'", "'default'"]),
        (["--concurrency", "0"], {}, ["--concurrency", "0"]),
        (["--concurrency", "-3"], {}, ["--concurrency", "-3"]),
        (["--backend", "defaults"], {}, ["defaults"]),
        (["--backend", "immediate"], {}, ["immediate", "ImmediateBackend"]),
        ([], {"VTASKS_BACKEND": "nowhere"}, ["nowhere"]),
        ([], {"VTASKS_TASK_CONTEXT": "tests.workapp.tasks.no_such_hook"}, ["VTASKS_TASK_CONTEXT", "no_such_hook"]),
        ([], {"VTASKS_TASK_CONTEXT": "tests.workapp.tasks.PATIENCE"}, ["VTASKS_TASK_CONTEXT", "PATIENCE"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_done_is_said_in_one_line_and_the_exit_code_is_2(stage, options, environment, names):
    worker = stage.start(*options, **environment)

    assert worker.exit_code() == 2, worker.log
    [line] = worker.log.strip().splitlines()
    for name in names:
        assert name in line


def test_an_option_that_is_no_number_is_a_usage_error(stage):
    worker = stage.start("--concurrency", "many")

    assert worker.exit_code() == 2
    assert "--concurrency" in worker.log


@pytest.mark.parametrize("variable", ["VTASKS_CONCURENCY", "VTASKS_LEASE"])
def test_a_wrong_setting_ends_the_worker_before_it_takes_anything(stage, variable):
    tasks.note.enqueue("kept")
    worker = stage.start("--burst", **{variable: "-1"})

    assert worker.exit_code() != 0
    assert variable in worker.log
    assert stage.ledger.counts() == {}
    assert stage.broker.depth("default").waiting == 1


def test_concurrency_is_the_number_of_tasks_that_run_at_a_time(stage):
    for number in range(5):
        tasks.ahold.enqueue(f"h{number}")
    stage.worker("--concurrency", "2")
    stage.ledger.wait_for("h0", "h1")
    tasks.anote.enqueue("behind")

    assert set(stage.ledger.counts()) == {"h0", "h1"}
    stage.ledger.open("h0")
    stage.ledger.wait_for("h2")
    assert "h3" not in stage.ledger.counts()
    stage.ledger.open("h1", "h2", "h3", "h4")
    stage.ledger.wait_for("behind")
    stage.until_empty()


def test_each_queue_has_its_own_concurrency(stage, settings):
    settings(VTASKS_QUEUES=["cold"])
    for number in range(2):
        tasks.ahold.using(queue_name="cold").enqueue(f"cold{number}")
        tasks.ahold.enqueue(f"default{number}")
    stage.worker(VTASKS_QUEUES='{"cold": {"concurrency": 1}}')

    stage.ledger.wait_for("default0", "default1", "cold0")
    assert "cold1" not in stage.ledger.counts()
    stage.ledger.open("cold0", "cold1", "default0", "default1")
    stage.until_empty()


def test_two_workers_share_a_queue_and_run_nothing_twice(stage):
    stage.enqueue_many([(tasks.awork, (f"w{n}", 0.01), {}) for n in range(300)])
    workers = [stage.start("--burst", "--concurrency", "5", "--id", name) for name in ("alpha", "beta")]

    assert [worker.exit_code() for worker in workers] == [0, 0]
    assert stage.ledger.counts() == {f"w{n}": 1 for n in range(300)}


@pytest.mark.parametrize(
    "alias", ["default", "postgres", "valkey"], indirect=True, ids=["sqlite", "postgresql", "valkey"]
)
def test_a_worker_whose_slots_are_full_keeps_nothing_from_an_idle_one(stage):
    full = [f"h{number}" for number in range(20)]
    for key in full:
        tasks.ahold.enqueue(key)
    stage.worker("--concurrency", "20")
    stage.ledger.wait_for(*full)
    stage.worker("--concurrency", "20")
    for number in range(5):
        tasks.anote.enqueue(f"n{number}")
        stage.ledger.wait_for(f"n{number}", within=10)

    stage.ledger.open(*full)
    stage.until_empty()
    assert set(stage.ledger.counts().values()) == {1}
