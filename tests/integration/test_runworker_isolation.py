"""Each running task has its own thread, database connection and context, and leaves nothing to the next."""

from typing import Any

import pytest
from django.contrib.auth.models import Group

from tests.integration.outages import backends
from tests.integration.probes import eventually
from tests.workapp import tasks

everywhere = pytest.mark.parametrize(
    "alias", ["default", "postgres", "mariadb"], indirect=True, ids=["sqlite", "postgresql", "mariadb"]
)
both_kinds = pytest.mark.parametrize("kind", ["def", "async"])

PARTIES = 8
ITS_OWN_CONNECTIONS = 6
"""Of the actor: calls and LISTEN; of the supervisor: lease and look; and two that are being replaced."""


@pytest.fixture
def no_groups(alias, stage):
    """Leave no group behind: only this package's tables are emptied for each test."""
    yield
    stage.stop()
    Group.objects.using(alias).all().delete()


@everywhere
class TestConnections:
    @pytest.mark.parametrize("task", [tasks.meet, tasks.ameet], ids=["def", "async"])
    def test_tasks_that_run_at_a_time_have_a_connection_and_a_thread_each(self, stage, task):
        for _ in range(PARTIES):
            task.enqueue("met", PARTIES)
        stage.worker("--concurrency", str(PARTIES))

        stage.ledger.wait_for("met", times=PARTIES)
        stage.until_empty()
        assert stage.failed() == {}
        met = stage.ledger.read("met")
        assert len({entry["connection"] for entry in met}) == PARTIES
        assert len({entry["thread"] for entry in met}) == PARTIES
        for entry in stage.ledger.read("met-again"):
            assert entry["before"] == entry["after"], "an async task changed its connection on the way"

    def test_a_blocking_query_of_one_async_task_does_not_hold_up_another(self, stage):
        for _ in range(PARTIES):
            tasks.ameet_inside.enqueue("inside", PARTIES)
        stage.worker("--concurrency", str(PARTIES))

        stage.ledger.wait_for("inside-met", times=PARTIES)
        assert all(entry["met"] for entry in stage.ledger.read("inside-met"))
        stage.until_empty()

    def test_sync_and_async_tasks_mix(self, stage):
        for _ in range(PARTIES // 2):
            tasks.meet.enqueue("mixed", PARTIES)
            tasks.ameet.enqueue("mixed", PARTIES)
        stage.worker("--concurrency", str(PARTIES))

        stage.ledger.wait_for("mixed", times=PARTIES)
        stage.until_empty()
        assert len({entry["connection"] for entry in stage.ledger.read("mixed")}) == PARTIES


@pytest.mark.parametrize("alias", ["postgres", "mariadb"], indirect=True, ids=["postgresql", "mariadb"])
@pytest.mark.parametrize("max_age", ["0", "600"])
def test_connections_are_bounded_however_many_tasks_have_run(stage, alias, max_age, no_groups):
    calls: list[Any] = [
        (task, (f"{task.func.__name__}{n}",), {}) for n in range(150) for task in (tasks.add_group, tasks.aadd_group)
    ]
    stage.enqueue_many(calls)
    # A server may still be closing those of a worker that has just been killed.
    others = backends(alias).keys()
    stage.worker("--concurrency", "4", TEST_CONN_MAX_AGE=max_age)

    most: set[int] = set()

    def done():
        nonlocal most
        most = max(most, backends(alias).keys() - others, key=len)
        return stage.size() == 0

    eventually(done, "all groups are there")
    assert stage.failed() == {}
    assert Group.objects.using(alias).count() == 300
    # A slot is free for its next task a moment before its last one's connection is closed: both are there then.
    assert len(most) <= 3 * 4 + ITS_OWN_CONNECTIONS
    eventually(
        lambda: len(backends(alias).keys() - others) <= 2 * 4 + ITS_OWN_CONNECTIONS,
        "connections are closed or kept for the next",
    )


@both_kinds
def test_what_a_task_sets_in_its_context_the_next_does_not_see(stage, kind):
    leave, see = (
        (tasks.leave_context, tasks.see_context) if kind == "def" else (tasks.aleave_context, tasks.asee_context)
    )
    for number in range(6):
        leave.enqueue(f"tenant {number}")
        see.enqueue(f"seen{number}")
    stage.worker("--concurrency", "1")

    stage.ledger.wait_for(*(f"seen{number}" for number in range(6)))
    for number in range(6):
        [seen] = stage.ledger.read(f"seen{number}")
        assert seen["tenant"] == "nobody"
        assert seen["language"] == "en-us"
    stage.until_empty()


class TestContextHook:
    """VTASKS_TASK_CONTEXT: a context manager of the project's around each task."""

    def run(self, stage, hook, *calls):
        results = [task.enqueue(*args) for task, *args in calls]
        stage.worker(VTASKS_TASK_CONTEXT=f"tests.workapp.tasks.{hook}")
        stage.until_empty()
        return results

    def test_it_surrounds_tasks_of_both_kinds(self, stage):
        results = self.run(stage, "as_tenant", (tasks.see_context, "seen"), (tasks.asee_context, "aseen"))

        for key, result in zip(("seen", "aseen"), results, strict=True):
            [entry] = stage.ledger.read(key)
            assert entry["tenant"] == f"tenant of {result.id}"
        assert stage.ledger.read("aseen")[0]["inside"] == f"tenant of {results[1].id}"
        hooked = stage.ledger.read("hook")
        assert sorted(entry["begins"] for entry in hooked if "begins" in entry) == sorted(r.id for r in results)
        assert sorted(entry["ends"] for entry in hooked if "ends" in entry) == sorted(r.id for r in results)
        assert {entry["attempt"] for entry in hooked if "begins" in entry} == {1}

    def test_it_ends_when_the_task_fails(self, stage):
        results = self.run(stage, "as_tenant", (tasks.fail, "Doom"), (tasks.afail_later, "SystemExit"))

        assert stage.failed().keys() == {result.id for result in results}
        ends = [entry["ends"] for entry in stage.ledger.read("hook") if "ends" in entry]
        assert sorted(ends) == sorted(result.id for result in results)

    def test_an_asynchronous_one_surrounds_async_tasks_and_refuses_the_others(self, stage):
        refused, surrounded = self.run(stage, "as_async_tenant", (tasks.see_context, "seen"), (tasks.asee_context, "a"))

        assert stage.ledger.read("a")[0]["tenant"] == f"tenant of {surrounded.id}"
        assert stage.ledger.read("seen") == []
        failed = stage.failed()
        assert failed.keys() == {refused.id}
        assert "VTASKS_TASK_CONTEXT" in failed[refused.id].failure.message
        assert "synchronous" in failed[refused.id].failure.message

    def test_one_that_raises_fails_the_task(self, stage):
        results = self.run(stage, "refusing_hook", (tasks.note, "n"), (tasks.anote, "a"))

        assert stage.ledger.counts() == {}
        failed = stage.failed()
        assert failed.keys() == {result.id for result in results}
        for entry in failed.values():
            assert (entry.failure.exception, entry.failure.message) == ("builtins.PermissionError", "no tenant")

    def test_one_that_swallows_an_exception_makes_the_task_succeed(self, stage):
        self.run(stage, "forgiving_hook", (tasks.fail, "ValueError"), (tasks.afail, "ValueError"))

        assert stage.failed() == {}


class TestSignals:
    """Django's task_started and task_finished, with receivers of both kinds."""

    @pytest.mark.parametrize("receivers", ["sync", "async", "sync async", "failing sync async"])
    def test_a_success_is_told_once_to_each_receiver(self, stage, receivers):
        results = [
            (tasks.note.enqueue("def"), {"discarded": "def"}),
            (tasks.anote.enqueue("never waits"), {"discarded": "never waits"}),
            (tasks.awork.enqueue("waits", 0.01), None),
        ]
        stage.worker(TEST_RECEIVERS=receivers)
        stage.until_empty()

        kinds = sorted(kind for kind in receivers.split() if kind != "failing")
        for result, value in results:
            started, finished = (stage.ledger.read(f"{name}-{result.id}") for name in ("started", "finished"))
            assert sorted(entry["kind"] for entry in started) == kinds
            assert {entry["status"] for entry in started} == {"RUNNING"}
            assert sorted(entry["kind"] for entry in finished) == kinds
            for entry in finished:
                assert (entry["status"], entry["finished"], entry["errors"]) == ("SUCCESSFUL", True, [])
                assert entry["value"] == value
        assert [stage.ledger.counts()[key] for key in ("def", "never waits", "waits")] == [1, 1, 1]
        assert stage.failed() == {}

    @pytest.mark.parametrize("receivers", ["sync", "async"])
    def test_a_failure_is_told_with_its_exception(self, stage, receivers):
        results = {
            task.enqueue(kind).id: kind
            for task in (tasks.fail, tasks.afail, tasks.afail_later)
            for kind in ("ValueError", "KeyboardInterrupt", "Mute", "CancelledError")
        }
        worker = stage.worker(TEST_RECEIVERS=receivers)
        stage.until_empty()

        for task_id, kind in results.items():
            [entry] = stage.ledger.read(f"finished-{task_id}")
            assert (entry["status"], entry["finished"], entry["value"]) == ("FAILED", True, None)
            [exception] = entry["errors"]
            assert exception.endswith(kind)
            assert "tasks.py" in entry["tracebacks"][0]
        assert stage.failed().keys() == results.keys()
        assert worker.is_running

    def test_a_receiver_that_raises_anything_at_all_costs_neither_a_slot_nor_the_worker(self, stage):
        for number in range(3):
            tasks.note.enqueue(f"n{number}")
            tasks.anote.enqueue(f"a{number}")
            tasks.fail.enqueue("ValueError")
            tasks.afail_later.enqueue("ValueError")
        worker = stage.worker("--concurrency", "1", TEST_RECEIVERS="exiting")

        stage.until_empty()
        assert worker.is_running
