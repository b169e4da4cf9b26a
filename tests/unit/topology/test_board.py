"""What a supervisor's events come to in metrics."""

import os
import threading
import time

import pytest

from django_vtasks.topology import board as topology_board
from django_vtasks.topology.board import MEMORY_EVERY, WORST_OF, Board
from tests.unit.topology.doubles import Clock, FakeSupervisor, a_child, a_plan
from vtasks_supervisor.events import Cause, ChildBeat, ChildExited, Exit


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def supervisor():
    return FakeSupervisor([a_child("mail#1"), a_child("mail#2")])


@pytest.fixture
def board(supervisor, clock, monkeypatch):
    monkeypatch.setattr(topology_board, "_own_memory", lambda pid: {4711: 30_000_000, os.getpid(): 1_000}[pid])
    return Board(a_plan("mail", "sms"), supervisor, clock)


def beat(name="mail#1", incarnation=1, *, lag=0.0, queue="mail", running=0, held=0):
    vitals = {"queue": queue, "running": running, "held": held}
    return ChildBeat(name=name, incarnation=incarnation, vitals=vitals, lag=lag)


def exited(cause, name="mail#1", incarnation=1):
    return ChildExited(name=name, incarnation=incarnation, exit=Exit(cause=cause))


def told(board, name, **labels):
    """Return the values of a metric by its labels."""
    return {labels: value for (family, labels), value in board.values().items() if family == name}


def test_running_and_held_tasks_are_added_up_by_queue(board):
    board.note(beat("mail#1", running=2, held=5))
    board.note(beat("mail#2", running=1, held=1))
    board.note(ChildBeat(name="scheduler", incarnation=1, vitals={"leads": True}, lag=0.0))

    assert told(board, "vtasks_active_tasks") == {("mail",): 3, ("sms",): 0}
    assert told(board, "vtasks_in_flight_tasks") == {("mail",): 6, ("sms",): 0}


def test_a_dead_actor_runs_nothing_and_its_successor_is_another(board):
    board.note(beat("mail#1", 1, running=2, lag=3.0))
    board.note(beat("mail#1", 2, running=1, lag=0.5))
    assert told(board, "vtasks_active_tasks")["mail",] == 3, "both live while one replaces the other"
    board.note(exited(Cause.CRASHED))

    assert told(board, "vtasks_active_tasks")["mail",] == 1
    assert told(board, "vtasks_event_loop_lag_seconds") == {("mail#1",): 0.5}


def test_the_worst_lag_of_a_minute_is_told(board, clock):
    board.note(beat(lag=2.0))
    clock.now += 10
    board.note(beat(lag=0.1))
    clock.now += 10
    board.note(beat(lag=0.3))
    assert told(board, "vtasks_event_loop_lag_seconds") == {("mail#1",): 2.0}
    clock.now += WORST_OF - 19
    assert told(board, "vtasks_event_loop_lag_seconds") == {("mail#1",): 0.3}
    clock.now += WORST_OF
    assert told(board, "vtasks_event_loop_lag_seconds") == {("mail#1",): 0.0}


@pytest.mark.parametrize(
    ("cause", "word"),
    [
        (Cause.CRASHED, "crashed"),
        (Cause.HUNG, "hung"),
        (Cause.STUBBORN, "stubborn"),
        (Cause.PLANNED, "planned"),
        (Cause.NOT_STARTED, "not started"),
    ],
)
def test_restarts_are_counted_by_cause_from_0_on(board, cause, word):
    assert told(board, "vtasks_actor_restarts")["mail#1", word] == 0
    board.note(exited(cause))
    board.note(exited(cause, incarnation=2))

    restarts = told(board, "vtasks_actor_restarts")
    assert restarts["mail#1", word] == 2
    assert sum(restarts.values()) == 2


def test_what_ends_with_the_worker_is_not_restarted(board, supervisor):
    supervisor.is_stopping = True
    board.note(exited(Cause.PLANNED))

    assert not any(told(board, "vtasks_actor_restarts").values())


def test_the_end_of_the_suspects_is_no_restart_but_their_death_is(board):
    board.note(exited(Cause.PLANNED, "mail (suspects)"))
    board.note(exited(Cause.CRASHED, "mail (suspects)"))

    restarts = told(board, "vtasks_actor_restarts")
    assert {key: value for key, value in restarts.items() if value} == {("mail (suspects)", "crashed"): 1}


def test_a_child_that_is_started_in_another_way_is_none_either(board):
    board.note(exited(Cause.UNSUITED))

    assert not any(told(board, "vtasks_actor_restarts").values())


def test_an_actor_is_up_when_it_is_ready(board, supervisor):
    supervisor.states = [a_child("mail#1"), a_child("mail#2", state="waiting")]

    assert told(board, "vtasks_actor_up") == {("mail#1",): 1, ("mail#2",): 0}


def test_memory_is_looked_at_now_and_then(board, clock, monkeypatch):
    memory = {("mail#1",): 30_000_000, ("mail#2",): 30_000_000, ("supervisor",): 1_000}
    assert told(board, "vtasks_actor_memory_bytes") == memory
    looked = threading.Event()
    monkeypatch.setattr(topology_board, "_own_memory", lambda _: looked.set())
    clock.now += MEMORY_EVERY - 1
    assert told(board, "vtasks_actor_memory_bytes") == memory
    assert not looked.is_set()
    clock.now += 1
    board.values()  # the look that this begins is for the next scrape
    assert looked.wait(10.0)
    until = time.monotonic() + 10.0
    while told(board, "vtasks_actor_memory_bytes"):
        assert time.monotonic() < until


def test_a_process_that_is_gone_has_no_memory(board, supervisor):
    assert len(told(board, "vtasks_actor_memory_bytes")) == 3
    supervisor.states.pop()
    assert set(told(board, "vtasks_actor_memory_bytes")) == {("mail#1",), ("supervisor",)}


def test_actors_without_processes_have_none(board, supervisor):
    supervisor.states = [child._replace(pid=None) for child in supervisor.states]
    assert told(board, "vtasks_actor_memory_bytes") == {}


def test_the_memory_of_this_very_process_can_be_told():
    own = topology_board._own_memory(os.getpid())
    assert own is not None
    assert 1_000_000 < own < 10_000_000_000
    assert topology_board._own_memory(2**22 + 1) is None
