"""A plan → the actors of its tree, and the order in which they start and stop."""

import pytest

from django_vtasks.conf import Batch
from django_vtasks.topology.plan import QueuePlan
from django_vtasks.topology.tree import Tree
from tests.unit.topology.doubles import a_plan
from vtasks_supervisor import Place, Restart

PLAIN = QueuePlan("mail", 2, 4)
BATCHING = QueuePlan("widgets", 1, 4, Batch(count=50))


def specs(**fields):
    """Return the specs of a plan's actors by name, in the order in which they start."""
    tree = Tree(a_plan(**fields), place=Place.PROCESS)
    return {slot.spec.name: slot.spec for slot in tree._supervisor._slots.values()}


def test_without_batch_queues_and_scheduler_there_are_actors_of_queues_alone():
    assert list(specs(queues=[PLAIN])) == ["mail#1", "mail#2"]


def test_batching_actors_start_first_and_the_scheduler_last():
    """Who may enqueue to others stops before them."""
    found = specs(queues=[PLAIN, BATCHING], scheduler=True)

    assert list(found) == ["widgets (batch)", "mail#1", "mail#2", "scheduler"]
    stages = [spec.stage for spec in found.values()]
    assert stages == sorted(stages)
    assert len(set(stages)) == 3


@pytest.mark.parametrize("name", ["widgets (batch)", "mail#1", "scheduler"])
def test_each_is_a_process_that_is_started_again_whatever_ended_it(name):
    spec = specs(queues=[PLAIN, BATCHING], scheduler=True)[name]

    assert (spec.place, spec.restart) == (Place.PROCESS, Restart.PERMANENT)
    assert spec.title == f"vtasks: {name}"
    assert spec.stop_timeout == 25.0


def test_there_is_room_for_a_note_of_each_task_that_may_run_at_a_time():
    found = specs(queues=[PLAIN, BATCHING], scheduler=True)

    assert found["mail#1"].notes is not None
    assert found["mail#1"].notes.entries == 4
    assert found["widgets (batch)"].notes is not None
    assert found["widgets (batch)"].notes.entries == 50
    assert found["scheduler"].notes is None


def test_for_the_suspects_of_a_paused_queue_no_actor_is_started_until_it_is_resumed(monkeypatch):
    """It would end at once, and be started again at every look."""
    tree, started = Tree(a_plan(queues=[PLAIN, BATCHING]), place=Place.PROCESS), []
    monkeypatch.setattr(tree._supervisor, "add", lambda spec: started.append(spec.name))

    tree._paused = {"mail"}
    tree._start_suspects({"mail": 2, "widgets": 1})
    assert started == ["widgets (suspects)"]

    tree._paused = set()
    tree._start_suspects({"mail": 2})
    assert started[1:] == ["mail (suspects)"]
