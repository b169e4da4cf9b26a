"""What ``manage.py vtasks`` prints, and how it ends."""

import asyncio
import json
import sys
from io import StringIO

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import override_settings

from django_vtasks.brokers.base import Bury, Owner, TaskFailure
from django_vtasks.brokers.database import DatabaseBroker
from django_vtasks.db.models import NodeRow
from django_vtasks.errors import BrokerUnavailable
from django_vtasks.operators import desk
from tests.contract.given import A_LEASE, FAILURE, a_task, in_an_hour, mutex, tasks
from tests.contract.steps import take

NORTH = Owner("north-1", "default#1", 2)
REPORT = {
    "host": "north",
    "pid": 4711,
    "queues": ["default"],
    "draining": False,
    "actors": [
        {
            "name": "default#1", "queue": "default", "state": "ready", "degraded": False, "pid": 4712,
            "incarnation": 2, "restarts": 1, "last_exit": "signal SIGKILL",
        }
    ],
}  # fmt: skip
SECRET = "hunter2"  # noqa: S105


@pytest.fixture
def broker(database):
    return DatabaseBroker(using=database("default"))


def run(*words, **options):
    """Return what the command prints."""
    output = StringIO()
    call_command("vtasks", *words, stdout=output, **options)
    return output.getvalue()


def told(*words):
    """Return what it prints for programs."""
    return json.loads(run(*words, "--json"))


def refused(*words, **options):
    """Return the one line with which it refuses."""
    with pytest.raises(CommandError) as caught:
        run(*words, **options)
    assert caught.value.returncode == 1
    assert "\n" not in str(caught.value)
    return str(caught.value)


def claim(broker, sent, *, ends_badly=None):
    """Push tasks and let NORTH claim them; with a failure, let them end with it."""

    async def work():
        claims = await take(broker, owner=NORTH, queue=sent[0].queue)
        if ends_badly:
            assert all(await broker.settle(NORTH, [Bury(claim, ends_badly) for claim in claims]))
        await broker.aclose()

    broker.push(sent)
    broker.renew(NORTH.node, A_LEASE)
    asyncio.run(work())
    return [task.id for task in sent]


def fail(broker, sent, failure=FAILURE):
    return claim(broker, sent, ends_badly=failure)


class TestQueues:
    def test_each_is_told_with_what_waits_and_for_how_long(self, broker):
        old = msgspec.structs.replace(a_task(queue="default"), enqueued_at=a_task().enqueued_at - 3700)
        broker.push([old, *tasks(2, queue="default", run_after=in_an_hour()), *tasks(1, queue="images")])
        broker.pause("images")

        default, images = told("queues")

        assert default["oldest_seconds"] >= 3700
        assert default | {"oldest_seconds": 0} == {
            "queue": "default", "waiting": 1, "delayed": 2, "running": 0, "oldest_seconds": 0, "paused": False,
        }  # fmt: skip
        assert (images["queue"], images["waiting"], images["paused"]) == ("images", 1, True)

    def test_one_where_nothing_waits_is_told_too(self, broker):
        assert told("queues") == [
            {"queue": "default", "waiting": 0, "delayed": 0, "running": 0, "oldest_seconds": None, "paused": False}
        ]

    def test_for_people_it_is_an_aligned_table(self, broker):
        broker.push(tasks(12, queue="default"))
        broker.pause("a queue of another time")

        head, first, second = run("queues").splitlines()

        assert head.split() == ["QUEUE", "WAITING", "DELAYED", "RUNNING", "OLDEST", "PAUSED"]
        assert first == "a queue of another time        0        0        0  -       yes"
        assert second.startswith("default                       12        0        0  ")
        assert second.endswith(" no")

    def test_all_can_be_counted(self, broker, monkeypatch):
        monkeypatch.setattr("django_vtasks.brokers.database.census.AT_MOST", 3)
        broker.push(tasks(5, queue="default"))

        assert told("queues")[0]["waiting"] == 3
        assert told("queues", "--exact")[0]["waiting"] == 5

    def test_within_a_transaction_it_sees_what_that_has_done(self, broker):
        with transaction.atomic():
            broker.push(tasks(2, queue="default"))
            run("pause", "default")
            [queue] = told("queues")
            transaction.set_rollback(True)

        assert (queue["waiting"], queue["paused"]) == (2, True)


class TestWorkers:
    def test_each_is_told_with_its_actors(self, broker):
        broker.renew("north-1", A_LEASE)
        broker.publish("north-1", json.dumps(REPORT))
        broker.renew("silent-1", A_LEASE)

        north, silent = told("workers")

        assert 0 < north["lease_seconds"] <= A_LEASE
        del north["lease_seconds"]
        assert north == {
            "node": "north-1", "state": "running", "host": "north", "pid": 4711,
            "queues": ["default"], "actors": REPORT["actors"],
        }  # fmt: skip
        assert (silent["node"], silent["state"], silent["actors"]) == ("silent-1", "starting", [])

    def test_one_that_drains_says_so(self, broker):
        broker.renew("north-1", A_LEASE)
        broker.publish("north-1", json.dumps(REPORT | {"draining": True}))

        assert told("workers")[0]["state"] == "draining"

    def test_one_whose_lease_has_run_out_is_told_until_it_is_taken_back(self, broker):
        broker.renew("north-1", A_LEASE)
        broker.publish("north-1", json.dumps(REPORT))
        NodeRow.objects.update(expires=1)

        [worker] = told("workers")

        assert (worker["state"], worker["lease_seconds"]) == ("lapsed", 0.0)

    def test_for_people_there_is_a_line_for_each_actor(self, broker):
        broker.renew("north-1", A_LEASE)
        broker.publish("north-1", json.dumps(REPORT))

        _, line = run("workers").splitlines()

        assert line.split()[:2] == ["north-1", "running"]
        assert line.endswith("default#1  default  ready         1  4712  signal SIGKILL")

    def test_without_workers_there_is_the_head_of_a_table(self, broker):
        assert run("workers").split()[:2] == ["NODE", "WORKER"]
        assert told("workers") == []


class TestRunning:
    def test_each_task_is_told_with_who_has_it_and_without_its_arguments(self, broker):
        [task_id] = claim(broker, [a_task(SECRET, queue="default")])

        assert told("running") == [
            {
                "id": task_id, "task": "demo.tasks.send", "queue": "default", "node": "north-1", "actor": "default#1",
                "incarnation": 2, "attempt": 1, "crashes": 0, "since": None, "seconds": None,
            }
        ]  # fmt: skip
        assert SECRET not in run("running")

    def test_its_arguments_are_shown_to_who_asks_for_them(self, broker):
        sent = msgspec.structs.replace(a_task(SECRET, queue="default"), kwargs={"copy": True})
        claim(broker, [sent])

        assert (told("running", "--args")[0]["args"], told("running", "--args")[0]["kwargs"]) == (
            [SECRET], {"copy": True},
        )  # fmt: skip
        assert run("running", "--args").splitlines()[1].endswith(f'"{SECRET}", copy=true')

    def test_no_more_than_asked_for(self, broker):
        claim(broker, tasks(3, queue="default"))

        assert [len(told("running", f"--limit={limit}")) for limit in (0, 2, 9)] == [0, 2, 3]


class TestFailed:
    @pytest.mark.parametrize("limit", ["-1", "some", "1.5"])
    def test_a_wrong_limit_is_refused_in_words(self, broker, limit):
        with pytest.raises(CommandError, match="--limit: must be a number, and not negative"):
            run("failed", "list", f"--limit={limit}")

    def test_the_list_tells_the_newest_first_without_arguments_and_tracebacks(self, broker):
        first, second = fail(broker, [a_task(SECRET, queue="default"), a_task(queue="default")])

        listed = told("failed", "list")

        assert [entry["id"] for entry in listed] == [second, first]
        assert listed[0].keys() == {
            "id", "task", "queue", "failed_at", "exception", "message", "attempts", "crashes",
        }  # fmt: skip
        assert (listed[0]["exception"], listed[0]["message"]) == (FAILURE.exception, FAILURE.message)
        assert SECRET not in run("failed", "list")
        assert len(told("failed", "list", "--limit=1")) == 1

    def test_the_list_can_be_of_one_queue_also_one_of_another_time(self, broker):
        fail(broker, tasks(2, queue="default"))
        [old] = fail(broker, tasks(1, queue="old"))

        assert [entry["id"] for entry in told("failed", "list", "--queue=old")] == [old]
        assert refused("failed", "list", "--queue=defualt").endswith("Did you mean 'default'?")

    def test_one_is_shown_with_its_traceback_and_its_arguments_only_if_asked_for(self, broker):
        failure = TaskFailure("builtins.ValueError", "no such\naddress", "Traceback:\n  in \x1b[2Jsend")
        [task_id] = fail(broker, [a_task(SECRET, queue="default")], failure)

        shown = run("failed", "show", task_id)
        assert "no such\naddress" in shown
        assert "Traceback:\n  in \N{REPLACEMENT CHARACTER}[2Jsend" in shown
        assert SECRET not in shown + run("failed", "show", task_id, "--json")
        assert SECRET in run("failed", "show", task_id, "--args")
        assert told("failed", "show", task_id, "--args")["args"] == [SECRET]

    def test_a_message_of_several_lines_takes_one_in_a_table(self, broker):
        fail(broker, tasks(1, queue="default"), TaskFailure("builtins.ValueError", "first\nsecond" + "x" * 99, ""))

        assert len(run("failed", "list").splitlines()) == 2

    def test_those_named_run_again(self, broker):
        first, second = fail(broker, tasks(2, queue="default"))

        assert told("failed", "retry", first) == [{"id": first, "outcome": "retried"}]

        assert broker.depth("default").waiting == 1
        assert [entry.id for entry in broker.failed()] == [second]

    def test_all_run_again_in_the_order_in_which_they_failed(self, broker):
        failed = fail(broker, tasks(3, queue="default"))

        assert [each["id"] for each in told("failed", "retry", "--all")] == failed
        assert told("failed", "retry", "--all") == []

    @pytest.mark.parametrize(("words", "call"), [(["retry"], "retry_failed"), (["delete", "--force"], "delete_failed")])
    def test_all_are_dealt_with_some_at_a_time_and_none_is_loaded_for_it(self, broker, monkeypatch, words, call):
        fail(broker, tasks(7, queue="default"))
        sizes, do = [], getattr(DatabaseBroker, call)

        def count(broker, task_ids):
            sizes.append(len(task_ids))
            return do(broker, task_ids)

        monkeypatch.setattr(desk, "AT_ONCE", 3)
        monkeypatch.delattr(DatabaseBroker, "failed")
        monkeypatch.setattr(DatabaseBroker, call, count)

        run("failed", *words, "--all")

        assert sizes == [3, 3, 1]
        assert broker.failed_count() == 0

    def test_one_whose_equal_is_under_way_stays_and_that_is_an_error(self, broker):
        failed = fail(broker, [a_task(queue="default", unique=mutex()), a_task(queue="default")])
        broker.push([a_task(queue="default", unique=mutex())])

        assert refused("failed", "retry", *failed) == "Not all failed tasks run again: 1 duplicate."

        assert [entry.id for entry in broker.failed()] == failed[:1]

    def test_with_one_wrong_id_nothing_is_done(self, broker):
        [task_id] = fail(broker, tasks(1, queue="default"))
        wrong = f"{task_id[:-1]}x"

        for name in ("retry", "delete"):
            assert refused("failed", name, task_id, wrong) == (
                f"No failed task has the id {wrong!r}. Did you mean {task_id!r}?"
            )
        assert refused("failed", "show", "far from it") == "No failed task has the id 'far from it'."
        assert broker.failed_count() == 1

    @pytest.mark.parametrize("name", ["retry", "delete"])
    def test_neither_ids_nor_all_is_nothing_and_both_are_too_much(self, broker, name):
        assert "--all" in refused("failed", name)
        assert "--all" in refused("failed", name, "some-id", "--all")

    def test_those_named_are_deleted(self, broker):
        first, second = fail(broker, tasks(2, queue="default"))

        assert told("failed", "delete", first, "--force") == {"deleted": 1}
        assert [entry.id for entry in broker.failed()] == [second]
        assert run("failed", "delete", "--all", "--force") == "Deleted 1 failed tasks.\n"

    def test_nothing_is_deleted_when_nobody_can_be_asked_or_the_answer_is_no(self, broker, monkeypatch):
        fail(broker, tasks(2, queue="default"))
        assert "--force" in refused("failed", "delete", "--all")

        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda _: "n")
        assert refused("failed", "delete", "--all") == "Nothing was deleted."
        monkeypatch.setattr("builtins.input", lambda _: "y")
        assert run("failed", "delete", "--all") == "Deleted 2 failed tasks.\n"


class TestPause:
    def test_a_queue_is_paused_and_resumed_as_often_as_one_likes(self, broker):
        for _ in range(2):
            assert run("pause", "default") == "Queue default is paused.\n"
        assert broker.paused() == {"default"}
        for _ in range(2):
            assert told("resume", "default") == {"queue": "default", "paused": False}
        assert broker.paused() == set()

    def test_a_queue_that_nobody_sends_to_any_more_can_be_resumed(self, broker):
        broker.pause("of another time")

        run("resume", "of another time")

        assert broker.paused() == set()

    @pytest.mark.parametrize("name", ["pause", "resume"])
    def test_a_wrong_name_is_refused_with_the_nearest_there_is(self, broker, name):
        assert refused(name, "defualt") == "There is no queue 'defualt'. Did you mean 'default'?"
        assert broker.paused() == set()


class TestTrouble:
    @pytest.mark.parametrize("words", [["queues"], ["failed", "list"], ["pause", "default"]])
    def test_a_wrong_alias_is_refused_with_the_nearest_there_is(self, broker, words):
        assert refused(*words, "--backend=defualt") == "TASKS has no backend 'defualt'. Did you mean 'default'?"

    def test_a_backend_that_cannot_be_imported_is_not_said_to_be_missing(self):
        with override_settings(TASKS={"default": {"BACKEND": "django_vtasks.backends.db.NoSuchBackend"}}):
            message = refused("queues")

        assert message.startswith("Could not find backend 'django_vtasks.backends.db.NoSuchBackend': ")

    def test_a_backend_without_a_broker_is_refused(self):
        assert "nothing for a worker to do" in refused("queues", "--backend=immediate")

    def test_a_store_that_does_not_answer_is_one_line(self, broker, monkeypatch):
        def silent(*args):
            raise BrokerUnavailable("Nobody\nanswers.")

        monkeypatch.setattr(DatabaseBroker, "paused", silent)

        assert refused("queues") == "Nobody answers."

    def test_tables_that_are_not_there_are_one_line(self, broker, monkeypatch):
        monkeypatch.setattr("django_vtasks.brokers.database.leases._NODES", "SELECT name, {now} FROM vtasks_nothing")

        assert "vtasks_nothing" in refused("workers")

    def test_options_can_be_given_as_keywords(self, broker):
        assert json.loads(run("queues", json=True))[0]["queue"] == "default"
