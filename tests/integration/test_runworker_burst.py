"""A burst of a whole tree: it ends when nothing is left in any queue, and not before."""

import asyncio

import pytest

from django_vtasks.brokers.base import Death, Owner
from tests.workapp import tasks

everywhere = pytest.mark.parametrize(
    "alias", ["default", "postgres", "valkey"], indirect=True, ids=["sqlite", "postgresql", "valkey"]
)

QUEUES = ["mail", "images"]
TREE = ("--burst", "--processes", "2", "--concurrency", "3")


@pytest.fixture(autouse=True)
def queues(stage, settings):
    settings(VTASKS_QUEUES=QUEUES, VTASKS_MAX_RESCUES=1)
    stage.environment["VTASKS_QUEUES"] = ",".join(QUEUES)


@everywhere
def test_it_runs_what_the_tasks_of_each_queue_enqueue_into_the_others(stage):
    expected = set()
    for number in range(6):
        tasks.chain.enqueue(f"c{number}", ["mail", "images", "default", "mail", "default", "images"])
        expected |= {f"c{number}-{left}" for left in range(7)}
    worker = stage.start(*TREE)

    assert worker.exit_code(30) == 0
    assert stage.ledger.counts() == dict.fromkeys(expected, 1)
    assert stage.size() == 0
    assert stage.broker.nodes() == {}


@everywhere
def test_poison_is_given_up_and_everything_else_is_done(stage):
    for queue in ("default", "mail"):
        for number in range(10):
            tasks.awork.using(queue_name=queue).enqueue(f"{queue}{number}", 0.01)
    poison = tasks.die.using(queue_name="mail").enqueue("poison", "SIGKILL")
    tasks.relay.using(queue_name="mail").enqueue("relayed", "images")
    worker = stage.start(*TREE)

    assert worker.exit_code(30) == 0
    assert stage.size() == 0
    assert stage.failed().keys() == {poison.id}
    counts = stage.ledger.counts()
    assert counts["poison"] == 2
    assert counts.keys() == {*(f"{queue}{n}" for queue in ("default", "mail") for n in range(10)), "poison", "relayed"}
    assert worker.log_lines("Suspect tasks of queue mail run apart")


@everywhere
def test_suspects_that_another_worker_has_left_are_run_too(stage):
    tasks.note_context.using(queue_name="mail").enqueue("suspect")
    ghost = Owner("ghost", "mail#1")
    stage.broker.renew(ghost.node, 60.0)

    async def claim():
        claims = await stage.broker.claim(ghost, "mail", 1)
        await stage.broker.aclose()
        return claims

    assert len(asyncio.run(claim())) == 1
    stage.broker.reclaim(ghost, Death("died"))
    stage.broker.leave(ghost.node)
    worker = stage.start(*TREE)

    assert worker.exit_code(30) == 0
    assert [entry["attempt"] for entry in stage.ledger.read("suspect")] == [2]
    assert ":mail (suspects):" in stage.ledger.read("suspect")[0]["workers"][-1]
    assert stage.size() == 0
