"""Operators at work while workers run: what they see, pause, retry and clear."""

import json
import os
import signal
import subprocess
import sys
import time
from io import StringIO

import pytest
from django.core.management import call_command

from tests.batchapp import tasks as batches
from tests.integration.probes import eventually
from tests.integration.workers import ROOT
from tests.workapp import tasks

everywhere = pytest.mark.parametrize(
    "alias",
    ["default", "postgres", "mariadb", "valkey"],
    indirect=True,
    ids=["sqlite", "postgresql", "mariadb", "valkey"],
)
SHORT_LEASE = {"VTASKS_LEASE": "3"}


def told(*words):
    """Return what the command says to programs."""
    output = StringIO()
    call_command("vtasks", *words, "--json", stdout=output)
    return json.loads(output.getvalue())


def seen(queue):
    """Return what the command says of a queue."""
    [found] = [one for one in told("queues") if one["queue"] == queue]
    return found


def actors_of(name):
    """Return the states of the actors of a worker."""
    workers = [worker for worker in told("workers") if worker["node"].startswith(name)]
    return [actor["state"] for worker in workers for actor in worker["actors"]]


@everywhere
def test_a_pause_holds_for_the_fleet_and_outlives_its_workers(stage):
    first, second = stage.worker(), stage.worker("--processes=2")
    tasks.note.enqueue("before")
    tasks.hold.enqueue("held")
    stage.ledger.wait_for("before", "held")

    told("pause", "default")
    for number in range(20):
        tasks.note.enqueue(f"during-{number}")
    stage.ledger.open("held")
    stage.ledger.wait_for("held-end")
    eventually(lambda: told("running") == [], "nothing is in flight")
    first.send(signal.SIGTERM)
    assert first.exit_code() == 0
    stage.worker("--id=successor", **SHORT_LEASE)
    tasks.note.enqueue("later")
    eventually(lambda: "ready" in actors_of("successor"), "its successor has told that it takes tasks")

    queue = seen("default")
    assert (queue["waiting"], queue["running"], queue["paused"]) == (21, 0, True)
    assert second.is_running

    resumed = time.monotonic()
    told("resume", "default")
    stage.ledger.wait_for("during-0")
    assert time.monotonic() - resumed < 3, "idle workers did not notice it soon"
    stage.ledger.wait_for("later", *(f"during-{number}" for number in range(20)))
    stage.until_empty()
    assert set(stage.ledger.counts().values()) == {1}
    assert seen("default")["paused"] is False


@pytest.mark.parametrize(
    "alias", ["default", "postgres", "valkey"], indirect=True, ids=["sqlite", "postgresql", "valkey"]
)
def test_a_pause_stops_the_batches_of_a_queue_and_a_resume_lets_them_go_on(stage, settings):
    settings(VTASKS_BATCH_QUEUES={"widgets": {}})
    collect = batches.collect.using(queue_name="widgets")
    worker = stage.worker(VTASKS_BATCH_QUEUES='{"widgets": {"count": 10, "timeout": 0.2}}', **SHORT_LEASE)
    stage.enqueue_many([(collect, (), {"number": 1})])
    stage.ledger.wait_for("member-1")
    eventually(lambda: told("running") == [], "nothing is in flight")

    told("pause", "widgets")
    stage.enqueue_many([(collect, (), {"number": number}) for number in (2, 3)])
    batcher = worker.actors()["widgets (batch)"]
    os.kill(batcher, signal.SIGTERM)
    eventually(lambda: worker.actors().get("widgets (batch)", batcher) != batcher, "it has a successor")
    eventually(
        lambda: (
            [a["state"] for w in told("workers") for a in w["actors"] if a["name"] == "widgets (batch)"] == ["ready"]
        ),
        "the successor takes tasks",
    )
    tasks.note.enqueue("beside")
    stage.ledger.wait_for("beside")
    queue = seen("widgets")
    assert (queue["waiting"], queue["running"], queue["paused"]) == (2, 0, True)

    told("resume", "widgets")
    stage.ledger.wait_for("member-2", "member-3")
    stage.until_empty()
    assert stage.ledger.counts()["collect"] == 2
    assert worker.is_running


@everywhere
def test_a_burst_leaves_a_paused_queue_alone_and_ends(stage):
    told("pause", "default")
    tasks.note.enqueue("waits")

    assert stage.start("--burst").exit_code() == 0

    assert seen("default")["waiting"] == 1
    told("resume", "default")
    assert stage.start("--burst").exit_code() == 0
    assert stage.ledger.counts() == {"waits": 1}


@everywhere
def test_workers_tell_of_their_actors_and_restarts_and_are_forgotten_when_they_leave(stage):
    worker = stage.worker("--processes=2", "--id=north", **SHORT_LEASE)

    def actors():
        """Return the actors by name, and all that is said with them."""
        [found] = told("workers")
        return {actor["name"]: actor for actor in found["actors"]}, found

    def are_ready():
        found, _ = actors()
        return {name for name, actor in found.items() if actor["state"] == "ready"} == {"default#1", "default#2"}

    eventually(are_ready, "both actors are told to be ready")
    found, told_of = actors()
    assert told_of["node"].startswith("north-")
    assert (told_of["pid"], told_of["state"], told_of["queues"]) == (worker.process.pid, "running", ["default"])
    assert 0 < told_of["lease_seconds"] <= 3
    assert {name: actor["pid"] for name, actor in found.items()} == worker.actors()
    assert {(actor["queue"], actor["restarts"], actor["last_exit"]) for actor in found.values()} == {
        ("default", 0, None)
    }

    os.kill(worker.actors()["default#2"], signal.SIGKILL)
    eventually(lambda: actors()[0]["default#2"]["restarts"] == 1 and are_ready(), "the restart is told")
    assert actors()[0]["default#2"]["last_exit"] == "signal SIGKILL"
    assert actors()[0]["default#1"]["restarts"] == 0

    worker.send(signal.SIGTERM)
    assert worker.exit_code() == 0
    assert told("workers") == []


@everywhere
def test_what_runs_is_told_with_the_actor_that_has_it(stage):
    worker = stage.worker("--id=north")
    held = tasks.hold.enqueue("held")
    stage.ledger.wait_for("held")

    [task] = told("running", "--args")

    assert (task["id"], task["task"], task["queue"]) == (held.id, "tests.workapp.tasks.hold", "default")
    assert task["node"].startswith("north-")
    assert (task["actor"], task["attempt"], task["args"]) == ("default#1", 1, ["held"])
    assert worker.is_running
    stage.ledger.open("held")
    eventually(lambda: told("running") == [], "nothing is in flight")


@everywhere
def test_a_failed_task_that_is_retried_runs_once_more(stage):
    stage.worker()
    failed = tasks.fail.enqueue("ValueError")
    [before] = eventually(lambda: told("failed", "list"), "the failure is told")

    assert told("failed", "retry", failed.id) == [{"id": failed.id, "outcome": "retried"}]

    def has_failed_again():
        return [entry for entry in told("failed", "list") if entry["failed_at"] > before["failed_at"]]

    [after] = eventually(has_failed_again, "it has failed again")
    assert (after["id"], after["attempts"], after["exception"]) == (failed.id, 1, "builtins.ValueError")
    assert "in _fail" in told("failed", "show", failed.id)["traceback"]


@everywhere
def test_while_workers_run_each_task_is_either_run_or_cleared_and_never_both(stage):
    stage.worker("--processes=2", "--concurrency=4")
    tasks.hold.enqueue("held")
    stage.ledger.wait_for("held")
    names = [f"task-{number}" for number in range(3000)]
    stage.enqueue_many((tasks.awork, (name, 0.001), {}) for name in names)
    stage.ledger.wait_for("task-10")

    output = StringIO()
    call_command("clear_queue", force=True, stdout=output)
    cleared = int(output.getvalue().split()[1])
    stage.ledger.open("held")
    stage.ledger.wait_for("held-end")
    stage.until_empty()

    counts = stage.ledger.counts()
    ran = [counts[name] for name in names if counts[name]]
    assert set(ran) == {1}
    assert len(ran) + cleared == len(names)
    assert cleared > 0
    assert counts["held"] == counts["held-end"] == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["vtasks", "pause", "defualt"], "CommandError: There is no queue 'defualt'. Did you mean 'default'?"),
        (["vtasks", "failed", "show", "nothing"], "CommandError: No failed task has the id 'nothing'."),
        (["vtasks", "queues", "--backend", "x"], "CommandError: TASKS has no backend 'x'."),
        (["clear_queue", "--queue", "defualt"], "CommandError: There is no queue 'defualt'. Did you mean 'default'?"),
        (["clear_queue", "--backend-alias", "x"], "CommandError: TASKS has no backend 'x'."),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(stage, words, line):
    done = subprocess.run(
        [sys.executable, "-m", "django", *words],
        cwd=ROOT,
        env=os.environ | stage.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (1, "", [line])
