"""Whether a worker does its work: what actors tell, what the store holds, what time has passed."""

import json

import pytest

from django_vtasks.brokers.base import Depth
from django_vtasks.conf import Batch
from django_vtasks.topology.health import SCHEDULER, Health
from django_vtasks.topology.plan import QueuePlan
from tests.unit.topology.doubles import LEASE, Clock, FakeSupervisor, a_child, a_plan
from vtasks_supervisor.events import Cause, ChildBeat, ChildReady, Exit, TreeReady, TreeStopping

TWO_LEASES = 2 * LEASE
STALL = ["queue mail makes no progress"]
WAITING = {"mail": Depth(waiting=3, delayed=0, running=0)}


class Worker:
    """A Health in the test's hands; its broker answers all the time unless told otherwise."""

    def __init__(self, *queues, batch=None):
        self.clock = Clock()
        self.supervisor = FakeSupervisor([a_child(f"{queue}#1") for queue in queues or ("mail",)])
        plans = [QueuePlan(queue, 1, 4, batch) for queue in queues or ("mail",)]
        self.health = Health(a_plan(queues=plans), self.supervisor, self.clock)  # type: ignore[arg-type]
        self.broker_answers = True
        self.passes(0.0)

    def passes(self, seconds):
        self.clock.now += seconds
        if self.broker_answers:
            self.health.renewed_at = self.clock.now

    def beats(self, work, name="mail#1", incarnation=1):
        queue = name.partition("#")[0].partition(" (")[0]
        vitals = {"queue": queue, "work": work, "running": 0, "room": 4, "oldest": 0.0}
        self.health.note(ChildBeat(name=name, incarnation=incarnation, vitals=vitals, lag=0.0))

    @property
    def problems(self):
        return self.health.problems()


@pytest.fixture
def worker():
    return Worker()


class TestStall:
    def test_tasks_that_wait_while_nothing_ends_for_two_leases_are_a_stall(self, worker):
        worker.health.depths = WAITING
        worker.passes(TWO_LEASES - 0.1)
        assert worker.problems == []
        worker.passes(0.1)

        assert worker.problems == STALL
        assert worker.health.report()["queues"]["mail"]["stalled"]

    @pytest.mark.parametrize(
        "depths", [{}, {"mail": Depth(0, 5, 0)}, {"mail": Depth(0, 0, 2)}, {"other": Depth(9, 0, 0)}]
    )
    def test_where_nothing_waits_there_is_none(self, worker, depths):
        worker.health.depths = depths
        worker.passes(10 * TWO_LEASES)

        assert worker.problems == []

    def test_each_task_that_ends_is_progress(self, worker):
        worker.health.depths = WAITING
        for work in range(1, 5):
            worker.passes(TWO_LEASES - 0.1)
            worker.beats(work)
        assert worker.problems == []
        worker.passes(TWO_LEASES)

        assert worker.problems == STALL

    def test_a_beat_with_nothing_done_is_none(self, worker):
        worker.health.depths = WAITING
        worker.beats(7)
        worker.passes(TWO_LEASES)
        worker.beats(7)

        assert worker.problems == STALL

    def test_the_successor_of_an_actor_counts_from_nothing(self, worker):
        worker.health.depths = WAITING
        worker.beats(7)
        worker.passes(TWO_LEASES)
        worker.beats(0, incarnation=2)
        assert worker.problems == STALL
        worker.beats(1, incarnation=2)

        assert worker.problems == []

    def test_long_tasks_in_every_slot_are_none(self, worker):
        worker.supervisor.states = [a_child("mail#1", room=0), a_child("mail#2", room=0)]
        worker.health.depths = WAITING
        worker.passes(10 * TWO_LEASES)
        assert worker.problems == []
        worker.supervisor.states[1] = a_child("mail#2", room=1)

        assert worker.problems == STALL

    @pytest.mark.parametrize("state", ["starting", "waiting", "stopping"])
    def test_tasks_that_wait_for_an_actor_that_does_not_come_are_one(self, worker, state):
        worker.supervisor.states = [a_child(state=state)]
        worker.health.depths = WAITING
        worker.passes(TWO_LEASES)

        assert worker.problems == STALL

    def test_an_actor_that_has_just_come_has_its_time(self, worker):
        worker.health.depths = WAITING
        worker.passes(TWO_LEASES)
        worker.health.note(ChildReady(name="mail#1", incarnation=2, seconds=1.0, pid=4712))
        assert worker.problems == []
        worker.passes(TWO_LEASES)

        assert worker.problems == STALL

    def test_one_queue_is_not_excused_by_another(self):
        worker = Worker("mail", "mail2")
        worker.health.depths = {"mail": Depth(1, 0, 0), "mail2": Depth(1, 0, 0)}
        worker.passes(TWO_LEASES)
        worker.beats(1, name="mail2#1")
        worker.health.note(ChildReady(name="mail2#1", incarnation=2, seconds=1.0, pid=4712))

        assert worker.problems == STALL

    def test_suspects_that_wait_behind_a_long_one_are_none(self, worker):
        """The one is alone for as long as it takes; the other actors have room, but not for suspects."""
        worker.supervisor.states.append(a_child("mail (suspects)", room=3))
        worker.health.depths = WAITING
        worker.health.suspects = {"mail": 3}
        worker.passes(TWO_LEASES)
        assert worker.problems == []
        worker.health.depths = {"mail": Depth(waiting=4, delayed=0, running=1)}

        assert worker.problems == STALL

    def test_a_long_batch_is_none_and_one_that_does_not_start_is(self):
        worker = Worker("mail", batch=Batch(count=3))
        worker.supervisor.states = [a_child("mail (batch)", room=0)]
        worker.health.depths = WAITING
        worker.passes(10 * TWO_LEASES)
        assert worker.problems == []
        worker.supervisor.states = [a_child("mail (batch)", room=3)]

        assert worker.problems == STALL

    def test_the_actor_of_a_batch_queue_has_its_time_when_it_has_just_come(self):
        worker = Worker("mail", batch=Batch(count=3))
        worker.supervisor.states = [a_child("mail (batch)", room=3)]
        worker.health.depths = WAITING
        worker.passes(TWO_LEASES)
        assert worker.problems == STALL
        worker.health.note(ChildReady(name="mail (batch)", incarnation=2, seconds=1.0, pid=4712))

        assert worker.problems == []

    def test_a_pause_is_none_and_after_it_the_queue_has_its_time(self, worker):
        worker.health.depths = WAITING
        worker.passes(TWO_LEASES - 1)
        worker.health.note_paused({"mail", "of another worker"})
        worker.passes(TWO_LEASES - 1)
        worker.health.note_paused({"mail"})
        assert worker.health.report()["queues"]["mail"]["paused"]

        worker.health.note_paused(set())
        worker.passes(TWO_LEASES - 1)
        assert worker.problems == []
        assert not worker.health.report()["queues"]["mail"]["paused"]
        worker.passes(1)

        assert worker.problems == STALL

    def test_suspects_that_nobody_runs_are_one(self, worker):
        worker.health.depths = WAITING
        worker.health.suspects = {"mail": 3}
        worker.passes(TWO_LEASES)

        assert worker.problems == STALL


class TestProblems:
    def test_before_the_broker_has_answered_that_is_all_there_is_to_say(self, worker):
        worker.health.renewed_at = None
        worker.health.broken_modules = {"shop.tasks": "ImportError: no"}

        assert worker.problems == ["the broker has not answered yet"]
        assert not worker.health.is_ready

    def test_a_lease_that_has_run_out_is_one_until_it_is_renewed(self, worker):
        worker.broker_answers = False
        worker.passes(LEASE - 0.1)
        assert worker.problems == []
        worker.passes(0.1)
        assert worker.problems == ["the broker does not answer: the node's lease has run out"]
        worker.broker_answers = True
        worker.passes(1.0)

        assert worker.problems == []

    def test_each_module_that_cannot_be_imported_is_one(self, worker):
        worker.health.broken_modules = {"shop.tasks": "ImportError: no x", "blog.tasks": "SyntaxError: y"}

        assert worker.problems == [
            "shop.tasks cannot be imported: ImportError: no x", "blog.tasks cannot be imported: SyntaxError: y",
        ]  # fmt: skip


class TestReady:
    def test_it_is_when_every_actor_has_been_and_every_queue_has_one(self, worker):
        assert not worker.health.is_ready
        worker.health.note(TreeReady())

        assert worker.health.is_ready

    def test_it_is_not_while_a_queue_has_no_actor(self):
        worker = Worker("mail", "images")
        worker.health.note(TreeReady())
        assert worker.health.is_ready
        worker.supervisor.states[1] = a_child("images#1", state="waiting")

        assert not worker.health.is_ready

    def test_one_actor_of_several_is_enough(self, worker):
        worker.supervisor.states = [a_child("mail#1", state="waiting"), a_child("mail#2")]
        worker.health.note(TreeReady())

        assert worker.health.is_ready

    def test_it_is_not_without_a_lease(self, worker):
        worker.health.note(TreeReady())
        worker.broker_answers = False
        worker.passes(LEASE)

        assert not worker.health.is_ready

    def test_it_is_not_while_it_drains(self, worker):
        worker.health.note(TreeReady())
        worker.health.note(TreeStopping())

        assert not worker.health.is_ready
        assert worker.health.report()["draining"]


class TestReport:
    def test_it_is_json_and_has_everything(self, worker):
        last_exit = Exit(cause=Cause.CRASHED, code=-9)
        worker.supervisor.states = [a_child(room=1, last_exit=last_exit)]
        worker.health.depths = {"mail": Depth(waiting=3, delayed=2, running=7)}
        worker.health.note(TreeReady())
        worker.passes(2.0)
        report = json.loads(json.dumps(worker.health.report()))

        assert (report["status"], report["problems"], report["ready"]) == ("healthy", [], True)
        assert (report["node"], report["backend"]) == ("north-1-abcd", "default")
        assert report["queues"] == {
            "mail": {
                "waiting": 3, "delayed": 2, "paused": False, "running_here": 3, "oldest_running_seconds": 0.0,
                "seconds_since_progress": 2.0, "stalled": False,
            }
        }  # fmt: skip
        [actor] = report["actors"]
        assert (actor["name"], actor["state"], actor["pid"]) == ("mail#1", "ready", 4711)
        assert actor["last_exit"] == "signal SIGKILL"

    def test_it_does_not_tell_the_text_of_an_exception_which_may_hold_secrets(self, worker):
        last_exit = Exit(cause=Cause.CRASHED, code=1, error="ValueError: my secret")
        worker.supervisor.states = [a_child(last_exit=last_exit)]

        [actor] = worker.health.report()["actors"]
        assert actor["last_exit"] == "ValueError (exit code 1)"

    def test_it_tells_of_the_schedule_where_there_is_a_scheduler(self, worker):
        assert worker.health.report()["schedule"] is None
        told = {"leader": "north-1-abcd", "leads": True, "entries": {"tick": {"last": 1.0, "next": 2.0}}}
        worker.supervisor.states.append(a_child(SCHEDULER)._replace(vitals=told))

        assert worker.health.report()["schedule"] == told

    def test_a_scheduler_is_an_actor_without_tasks(self, worker):
        """It has told nothing of the schedule yet, and of tasks it never will."""
        worker.supervisor.states.append(a_child(SCHEDULER)._replace(vitals={}))
        worker.health.note(TreeReady())
        worker.health.note(ChildReady(name=SCHEDULER, incarnation=1, seconds=1.0, pid=4712))
        worker.health.note(ChildBeat(name=SCHEDULER, incarnation=1, vitals={}, lag=0.0))
        report = worker.health.report()

        assert (report["status"], report["ready"], report["schedule"]) == ("healthy", True, {})
        assert [(actor["name"], actor["running"], actor["done"]) for actor in report["actors"]] == [
            ("mail#1", 0, 0),
            (SCHEDULER, 0, 0),
        ]

    def test_of_a_queue_that_nobody_has_counted_it_says_so(self, worker):
        worker.supervisor.states = [a_child(state="starting")]

        assert worker.health.report()["queues"]["mail"]["waiting"] is None

    def test_with_a_problem_it_is_unhealthy(self, worker):
        worker.health.broken_modules = {"shop.tasks": "ImportError: no x"}

        assert worker.health.report()["status"] == "unhealthy"
