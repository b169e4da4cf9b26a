"""What a worker says of itself through the store."""

import json

from django_vtasks.conf import Batch
from django_vtasks.topology.plan import QueuePlan
from django_vtasks.topology.report import report
from tests.unit.topology.doubles import a_child, a_plan
from vtasks_supervisor.events import Cause, Exit

PLAN = a_plan(queues=[QueuePlan("mail", 2, 4), QueuePlan("widgets", 1, 4, Batch(count=50))], scheduler=True)


def said(*children, draining=False):
    return json.loads(report(PLAN, children, draining=draining))


def test_each_actor_is_told_with_its_queue_before_it_is_ready_too():
    names = ["mail#1", "mail#2", "mail (suspects)", "widgets (batch)", "widgets (suspects)", "scheduler"]
    children = [a_child(name, state="starting") for name in names]

    actors = said(*children)["actors"]

    assert [actor["name"] for actor in actors] == names
    assert [actor["queue"] for actor in actors] == ["mail", "mail", "mail", "widgets", "widgets", None]


def test_an_actor_tells_its_state_and_what_ended_the_one_before():
    child = a_child(state="waiting", last_exit=Exit(cause=Cause.CRASHED, code=-9))._replace(restarts=3, incarnation=4)

    [actor] = said(child)["actors"]

    assert actor["state"] == "waiting"
    assert (actor["restarts"], actor["incarnation"], actor["pid"]) == (3, 4, 4711)
    assert actor["last_exit"] == "signal SIGKILL"


def test_the_text_of_an_exception_which_may_hold_secrets_is_not_told():
    error = "OperationalError: no access for postgres://me:secret@db/"
    child = a_child(last_exit=Exit(cause=Cause.CRASHED, code=1, error=error))

    assert said(child)["actors"][0]["last_exit"] == "OperationalError (exit code 1)"


def test_while_nothing_happens_it_stays_the_same():
    before = a_child(room=4)
    after = a_child(room=1)._replace(up=99.0, silent=0.1)

    assert said(before) == said(after)


def test_the_worker_tells_its_queues_and_whether_it_drains():
    assert said()["queues"] == ["mail", "widgets"]
    assert (said()["draining"], said(draining=True)["draining"]) == (False, True)
