"""An actor has died: what the store is told, and that it is told until it answers."""

import asyncio
import threading

import pytest

from django_vtasks.brokers.base import Owner, Reclaimed
from django_vtasks.topology import capacity, recovery
from django_vtasks.topology.recovery import Recovery
from django_vtasks.worker import outage
from tests.unit.worker.doubles import soon, turns
from vtasks_supervisor.events import Cause, Exit

KILLED = Exit(cause=Cause.CRASHED, code=-9, notes=())


class Store:
    """Answers reclaim() as the test says, on the threads where it is asked."""

    def __init__(self):
        self.calls = []
        self.trouble: list[Exception] = []
        self.answer = Reclaimed([], [])
        self.waiting: dict[str, int] = {}
        self.suspect_trouble: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()

    def reclaim(self, owner, death):
        self.calls.append((owner, death))
        self.gate.wait(10)
        if self.trouble:
            raise self.trouble.pop(0)
        return self.answer

    def suspects(self):
        if self.suspect_trouble:
            raise self.suspect_trouble.pop(0)
        return self.waiting


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def announced():
    return []


@pytest.fixture
def oom_kills(monkeypatch):
    """What the kernel has counted, in the test's hands."""
    counted = {"now": 0}
    monkeypatch.setattr(capacity, "oom_kills", lambda: counted["now"])
    return counted


@pytest.fixture
async def recover(store, announced, oom_kills, monkeypatch):
    monkeypatch.setattr(outage, "FIRST_DELAY", 0.001)
    made = Recovery(store, "north", announced.append)
    yield made
    store.gate.set()
    await made.finish(5.0)


async def cause_of(recover, store, exit_):
    recover.ended("mail#1", 1, exit_)
    await soon(lambda: store.calls)
    [(_, death)] = store.calls
    store.calls.clear()
    return death.cause


async def test_exactly_the_tasks_of_that_incarnation_are_handed_back(recover, store):
    recover.ended("mail#2", 7, KILLED)
    await soon(lambda: store.calls)

    assert store.calls[0][0] == Owner("north", "mail#2", 7)


async def test_what_was_running_is_what_stood_in_the_record(recover, store):
    recover.ended("mail#1", 1, Exit(cause=Cause.CRASHED, code=-9, notes=(b"a" * 32, b"b" * 32)))
    recover.ended("mail#2", 1, KILLED)
    recover.ended("mail#3", 1, Exit(cause=Cause.CRASHED, code=-9))
    await soon(lambda: len(store.calls) == 3)
    running = {owner.slot: death.running for owner, death in store.calls}

    assert running == {"mail#1": {"a" * 32, "b" * 32}, "mail#2": frozenset(), "mail#3": None}


@pytest.mark.parametrize("cause", [Cause.PLANNED, Cause.STUBBORN])
async def test_nothing_is_blamed_for_the_end_of_an_actor_that_was_told_to_stop(recover, store, cause):
    recover.ended("mail#1", 1, Exit(cause=cause, code=-9, notes=(b"a" * 32,)))
    recover.ended("mail#2", 1, Exit(cause=cause, code=-9))
    await soon(lambda: len(store.calls) == 2)

    assert {death.running for _, death in store.calls} == {frozenset()}


async def test_a_claim_that_the_store_obeys_after_its_actor_is_dead_is_handed_back_unharmed(
    recover, store, monkeypatch
):
    monkeypatch.setattr(recovery, "LATE", (0.01, 0.02))
    recover.ended("mail#1", 1, Exit(cause=Cause.CRASHED, code=-9, notes=(b"a" * 32,)))
    await soon(lambda: len(store.calls) == 3)

    assert [death.running for _, death in store.calls] == [{"a" * 32}, frozenset(), frozenset()]


class TestCause:
    @pytest.mark.parametrize(
        ("exit_", "words"),
        [
            (KILLED, "Actor mail#1 ended: signal SIGKILL"),
            (Exit(cause=Cause.CRASHED, code=-11), "Actor mail#1 ended: signal SIGSEGV"),
            (Exit(cause=Cause.CRASHED, code=3), "Actor mail#1 ended: exit code 3"),
            (Exit(cause=Cause.CRASHED, code=0), "Actor mail#1 ended: exit code 0"),
            (Exit(cause=Cause.CRASHED), "Actor mail#1 ended: exit code unknown"),
            (Exit(cause=Cause.HUNG, code=-9), "Actor mail#1 ended: hung (signal SIGKILL)"),
            (Exit(cause=Cause.STUBBORN, code=-9), "Actor mail#1 ended: did not stop in time (signal SIGKILL)"),
            (
                Exit(cause=Cause.CRASHED, code=1, error="RuntimeError: no"),
                "Actor mail#1 ended: RuntimeError: no (exit code 1)",
            ),
        ],
    )
    async def test_it_says_how_the_actor_ended(self, recover, store, exit_, words):
        assert await cause_of(recover, store, exit_) == words

    async def test_with_the_peak_of_its_memory_if_that_is_known(self, recover, store):
        exit_ = Exit(cause=Cause.CRASHED, code=-9, peak_memory=123_456_789)

        assert await cause_of(recover, store, exit_) == "Actor mail#1 ended: signal SIGKILL, peak memory 123 MB"

    async def test_memory_is_to_blame_when_the_kernel_has_killed_for_it_since(self, recover, store, oom_kills):
        oom_kills["now"] = 1
        assert await cause_of(recover, store, KILLED) == "Actor mail#1 ended: signal SIGKILL, out of memory"

        assert await cause_of(recover, store, KILLED) == "Actor mail#1 ended: signal SIGKILL"

    async def test_memory_is_to_blame_for_each_of_two_actors_that_were_killed_at_once(self, recover, store, oom_kills):
        oom_kills["now"] = 2

        assert "out of memory" in await cause_of(recover, store, KILLED)
        assert "out of memory" in await cause_of(recover, store, KILLED)
        assert "out of memory" not in await cause_of(recover, store, KILLED)

    async def test_memory_is_not_to_blame_for_who_was_killed_long_after_a_process_of_somebody_else(
        self, recover, store, oom_kills, monkeypatch
    ):
        monkeypatch.setattr(recovery, "TOLD_WITHIN", -1.0)
        oom_kills["now"] = 2

        assert "out of memory" in await cause_of(recover, store, KILLED)
        assert "out of memory" not in await cause_of(recover, store, KILLED)

    @pytest.mark.parametrize(
        "exit_",
        [Exit(cause=Cause.CRASHED, code=-11), *(Exit(cause=cause, code=-9) for cause in (Cause.HUNG, Cause.STUBBORN))],
    )
    async def test_it_is_not_when_the_actor_died_of_something_else(self, recover, store, oom_kills, exit_):
        oom_kills["now"] = 1

        assert "out of memory" not in await cause_of(recover, store, exit_)

    async def test_where_the_kernel_does_not_count_nothing_is_said_of_it(self, store, announced, monkeypatch):
        monkeypatch.setattr(capacity, "oom_kills", lambda: None)

        assert await cause_of(Recovery(store, "north", announced.append), store, KILLED) == (
            "Actor mail#1 ended: signal SIGKILL"
        )

    async def test_the_stacks_of_a_hung_actor_go_along(self, recover, store):
        recover.ended("mail#1", 1, Exit(cause=Cause.HUNG, code=-9, dump="Thread 0x1: in block"))
        await soon(lambda: store.calls)

        assert store.calls[0][1].traceback == "Thread 0x1: in block"


async def test_a_store_in_trouble_is_asked_until_it_answers(recover, store, caplog):
    store.trouble = [OSError("closed")] * 3
    store.answer = Reclaimed(["a", "b"], ["c"])
    recover.ended("mail#1", 1, KILLED)
    await soon(lambda: "Took back" in caplog.text)

    assert len(store.calls) == 4
    assert len(set(store.calls)) == 1
    assert "Cannot hand back the tasks of an actor that died" in caplog.text
    assert (
        "Took back 3 tasks of mail#1, which ended: Actor mail#1 ended: signal SIGKILL; 1 failed for good" in caplog.text
    )


async def test_a_silent_store_holds_nobody_up(recover, store):
    store.gate.clear()
    recover.ended("mail#1", 1, KILLED)
    await soon(lambda: store.calls)
    await asyncio.wait_for(turns(50), 1)
    recover.ended("mail#2", 1, KILLED)
    await soon(lambda: len(store.calls) == 2)
    began = asyncio.get_running_loop().time()
    await recover.finish(0.05)

    assert asyncio.get_running_loop().time() - began < 1


class TestSuspects:
    async def test_those_that_came_of_the_death_are_announced_at_once(self, recover, store, announced):
        store.answer = Reclaimed(["a"], [])
        store.waiting = {"mail": 1}
        recover.ended("mail#1", 1, KILLED)

        await soon(lambda: announced == [{"mail": 1}])

    async def test_when_nothing_came_back_nobody_looks(self, recover, store, announced):
        store.waiting = {"mail": 1}
        recover.ended("mail#1", 1, KILLED)
        await soon(lambda: store.calls)
        await recover.finish(5.0)

        assert announced == []

    async def test_a_look_tells_what_it_saw_and_announces_it_on_the_loop(self, recover, store, announced):
        assert await asyncio.to_thread(recover.look_for_suspects) == {}
        store.waiting = {"mail": 2}
        assert await asyncio.to_thread(recover.look_for_suspects) == {"mail": 2}
        await turns()

        assert announced == [{"mail": 2}]

    async def test_a_look_that_fails_is_repeated_too(self, recover, store, announced):
        store.answer = Reclaimed(["a"], [])
        store.waiting = {"mail": 1}
        store.suspect_trouble = [OSError("closed")]
        recover.ended("mail#1", 1, KILLED)
        await soon(lambda: announced)

        assert announced == [{"mail": 1}]


def test_on_a_closed_loop_nothing_is_called(store):
    async def make():
        return Recovery(store, "north", lambda _: None)

    closed = asyncio.run(make())
    closed.on_loop(lambda: pytest.fail("called"))
