"""Threads with a connection each: how many, whose, and in what state the next task finds them."""

import asyncio
import contextlib
import hashlib
import sys
import threading
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import connections

from django_vtasks.worker import lanes
from django_vtasks.worker.lanes import OrmLanes, ThreadLanes
from tests.contract.threads import closing
from tests.unit.worker.doubles import soon
from tests.workapp import tasks as workapp

SPOILT = [
    "closed",
    "closed by the driver",
    "no autocommit",
    "failed statement",
    "open atomic block",
    "broken atomic block",
    "open transaction",
]


@pytest.fixture
def threads():
    """Give a function that makes lanes with the list of what they delivered."""
    made = []

    def make(limit):
        results: list[Any] = []
        made.append(ThreadLanes(limit, results.append))
        return made[-1], results

    yield make
    for each in made:
        each.close()


@pytest.fixture
def sqlite(database):
    return database("default")


@pytest.fixture
def postgres(database):
    return database("postgres")


def lane_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("vtasks-lane")]


async def threads_that_computed(jobs):
    """Return how many threads there were after so many jobs without a pause."""
    left = jobs

    def deliver(result):
        nonlocal left
        left -= 1
        sum(range(2000))  # the loop has work too
        if left > 0:
            pool.submit(lambda: sum(range(500)))

    pool = ThreadLanes[int](100, deliver)
    for _ in range(200):
        pool.submit(lambda: sum(range(500)))
    await soon(lambda: left <= 0)
    count = len(lane_threads())
    pool.close()
    await soon(lambda: not lane_threads())
    return count


class TestThreadLanes:
    async def test_what_only_computes_does_not_multiply_the_threads(self):
        """They waited for each other and for the loop, not for anything else: a hundred are slower than four."""
        assert await threads_that_computed(5000) <= 20

    @pytest.mark.skipif(sys.platform != "linux", reason="no other system tells who waits for a core")
    async def test_what_waits_for_a_core_does_not_multiply_the_threads(self, contested_core):
        for _ in range(5):
            assert await threads_that_computed(500) <= 20

    @pytest.mark.skipif(sys.platform != "linux", reason="no other system tells who waits for a core")
    async def test_what_computes_for_long_on_one_core_does_not_keep_others_waiting(self, threads, one_core):
        made, results = threads(20)
        end = threading.Event()

        def compute():
            while not end.is_set():
                hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", 10_000)  # without the interpreter's lock
            return "long"

        for _ in range(4):
            made.submit(compute)
        for _ in range(8):
            made.submit(lambda: "short")
        try:
            await soon(lambda: results.count("short") == 8)
            assert "long" not in results
        finally:
            end.set()
        await soon(lambda: len(results) == 12)

    async def test_results_are_delivered_on_the_loops_own_thread(self):
        delivered: list[Any] = []
        lanes = ThreadLanes[int](2, lambda result: delivered.append((result, threading.get_ident())))
        lanes.submit(threading.get_ident)
        [(worker, here)] = await soon(lambda: delivered)
        lanes.close()

        assert here == threading.get_ident()
        assert worker != here

    async def test_more_functions_than_threads_all_run(self, threads):
        made, results = threads(3)
        for number in range(200):
            made.submit(lambda number=number: number)
        await soon(lambda: len(results) == 200)

        assert sorted(results) == list(range(200))

    @pytest.mark.parametrize("limit", [1, 2, 12])
    async def test_as_many_blocked_functions_run_at_a_time_as_the_limit_says_and_no_more(self, threads, limit):
        made, results = threads(limit)
        gate, running, most, lock = threading.Event(), 0, 0, threading.Lock()

        def block():
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            gate.wait(30)
            with lock:
                running -= 1

        for _ in range(limit + 5):
            made.submit(block)
        await soon(lambda: most == limit)
        gate.set()
        await soon(lambda: len(results) == limit + 5)

        assert most == limit

    async def test_a_burst_after_a_long_silence_gets_its_threads_too(self, threads):
        made, results = threads(10)
        made.submit(lambda: None)
        await soon(lambda: len(results) == 1)
        await asyncio.sleep(5 * lanes.LOOK_EVERY)
        meeting = threading.Barrier(10)
        for _ in range(10):
            made.submit(lambda: meeting.wait(20))

        await soon(lambda: len(results) == 11)

    async def test_closed_lanes_end_their_threads_after_what_these_run(self):
        before = set(lane_threads())
        results: list[Any] = []
        lanes = ThreadLanes(4, results.append)
        gate = threading.Event()
        for _ in range(4):
            lanes.submit(lambda: gate.wait(30))
        lanes.close()
        gate.set()

        await soon(lambda: len(results) == 4)
        await soon(lambda: set(lane_threads()) <= before)

    async def test_a_connection_that_cannot_be_tidied_costs_neither_the_outcome_nor_the_thread(
        self, threads, sqlite, caplog
    ):
        alias = sqlite
        made, results = threads(1)

        def stubborn():
            raise RuntimeError("not now")

        def connect(outcome):
            connections[alias].ensure_connection()
            connections[alias].close_if_unusable_or_obsolete = stubborn  # type: ignore[method-assign]
            return outcome, threading.get_ident(), connections[alias]

        made.submit(lambda: connect("first"))
        await soon(lambda: len(results) == 1)
        made.submit(lambda: connect("second"))
        await soon(lambda: len(results) == 2)

        (first, thread, connection), (second, same_thread, another) = results
        assert (first, second) == ("first", "second")
        assert thread == same_thread
        assert connection is not another
        assert "not now" in caplog.text

    async def test_without_any_thread_the_caller_is_told(self, threads, monkeypatch):
        made, _ = threads(4)

        def no_thread(self):
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            with pytest.raises(RuntimeError):
                made.submit(lambda: None)

    async def test_with_fewer_threads_than_wanted_functions_wait_their_turn(self, threads, monkeypatch):
        made, results = threads(4)
        made.submit(lambda: None)
        await soon(lambda: len(results) == 1)

        def no_thread(self):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", no_thread)
        for _ in range(8):
            made.submit(lambda: None)
        monkeypatch.undo()

        await soon(lambda: len(results) == 9)


class TestOrmLanes:
    async def ident(self, lanes):
        with lanes.lane():
            return await sync_to_async(threading.get_ident)()

    async def test_one_task_has_one_thread_for_all_its_calls(self):
        lanes = OrmLanes()
        with lanes.lane():
            idents = {await sync_to_async(threading.get_ident)() for _ in range(5)}
        lanes.close()

        assert len(idents) == 1
        assert threading.get_ident() not in idents

    async def test_tasks_that_run_at_a_time_have_a_thread_each(self):
        lanes = OrmLanes()
        meeting = threading.Barrier(6)

        async def visit():
            with lanes.lane():
                await sync_to_async(meeting.wait)(20)
                return await sync_to_async(threading.get_ident)()

        idents = await asyncio.gather(*(visit() for _ in range(6)))
        lanes.close()

        assert len(set(idents)) == 6

    async def test_a_thread_serves_one_task_after_another(self):
        lanes = OrmLanes()
        idents = {await self.ident(lanes) for _ in range(20)}
        lanes.close()

        assert len(idents) == 1

    async def test_a_task_that_makes_no_such_call_starts_no_thread(self):
        before = threading.active_count()
        lanes = OrmLanes()
        with lanes.lane():
            assert threading.active_count() == before
        lanes.close()

    async def test_a_call_that_its_task_no_longer_waits_for_does_not_hold_up_the_next_task(self):
        lanes = OrmLanes()
        gate = threading.Event()
        with lanes.lane(), contextlib.suppress(TimeoutError):
            await asyncio.wait_for(sync_to_async(gate.wait)(20), 0.05)
        try:
            await asyncio.wait_for(self.ident(lanes), 2)
        finally:
            gate.set()
            lanes.close()

    async def test_a_lane_that_is_given_up_is_not_kept(self):
        lanes = OrmLanes()
        gate = threading.Event()
        for _ in range(5):
            with lanes.lane(), contextlib.suppress(TimeoutError):
                await asyncio.wait_for(sync_to_async(gate.wait)(20), 0.01)

        assert lanes._all == []
        gate.set()

    async def test_what_a_task_leaves_behind_cannot_use_the_connection_of_the_next(self):
        lanes = OrmLanes()
        gate = asyncio.Event()

        async def outlive():
            await gate.wait()
            await sync_to_async(threading.get_ident)()

        with lanes.lane():
            left_behind = asyncio.create_task(outlive())
            await asyncio.sleep(0)
        with lanes.lane():
            gate.set()
            with pytest.raises(RuntimeError, match="has ended"):
                await left_behind
        lanes.close()

    async def test_loops_on_other_threads_of_a_task_share_its_thread(self):
        lanes = OrmLanes()
        meeting = threading.Barrier(4)

        def in_a_loop_of_its_own():
            meeting.wait(20)
            return asyncio.run(sync_to_async(threading.get_ident)())

        with lanes.lane():
            idents = await asyncio.gather(*(asyncio.to_thread(in_a_loop_of_its_own) for _ in range(4)))
        lanes.close()

        assert len(set(idents)) == 1

    async def test_a_task_that_fails_gives_its_lane_back(self):
        lanes = OrmLanes()
        first = await self.ident(lanes)
        with contextlib.suppress(ValueError), lanes.lane():
            raise ValueError
        second = await self.ident(lanes)
        lanes.close()

        assert second == first

    async def test_closed_lanes_end_their_threads_and_connections(self, sqlite):
        lanes = OrmLanes()

        def connection():
            connections[sqlite].ensure_connection()
            return connections[sqlite], threading.current_thread()

        with lanes.lane():
            wrapper, thread = await sync_to_async(connection)()
        lanes.close()

        await soon(lambda: not thread.is_alive())
        assert wrapper.connection is None


class Pool:
    """Counts what is taken from it and not returned."""

    def __init__(self):
        self.taken = 0

    def putconn(self, connection):
        self.taken -= 1
        connection.close()


@pytest.mark.parametrize("how", ["closed by the driver", "open atomic block", "open transaction"])
async def test_a_connection_of_djangos_pool_goes_back_to_it_however_a_task_leaves_it(
    threads, postgres, monkeypatch, how
):
    monkeypatch.setattr(workapp, "ALIAS", postgres)
    made, results = threads(1)
    pool = Pool()

    def spoil():
        connection = connections[postgres]
        connection.ensure_connection()
        monkeypatch.setattr(type(connection), "pool", pool)
        connection.connection._pool = pool
        pool.taken += 1
        workapp._spoil(how)

    made.submit(spoil)
    await soon(lambda: results)

    assert pool.taken == 0


@pytest.mark.parametrize("alias", ["default", "postgres", "mariadb"], ids=["sqlite", "postgresql", "mariadb"])
@pytest.mark.parametrize("max_age", [0, None], ids=["closed after each task", "kept"])
@pytest.mark.parametrize("kind", ["def", "async"])
class TestConnectionOfTheNextTask:
    """Whatever a task leaves behind on its connection is not found by the next, and is never committed."""

    @pytest.fixture
    def in_lane(self, kind, max_age, alias, database, monkeypatch):
        """Give a function that runs another one as a task of this kind would, always in the same lane."""
        database(alias)
        monkeypatch.setitem(connections.settings[alias], "CONN_MAX_AGE", max_age)
        monkeypatch.setattr(workapp, "ALIAS", alias)
        results: list[Any] = []
        threads, orm = ThreadLanes(1, results.append), OrmLanes()

        def outcome(function, *args):
            try:
                return function(*args), None
            except Exception as error:  # noqa: BLE001  # to be looked at by the test
                return None, error

        async def run(function, *args):
            results.clear()
            if kind == "def":
                threads.submit(lambda: outcome(function, *args))
                await soon(lambda: results)
                return results[0]
            with orm.lane():
                return await sync_to_async(outcome)(function, *args)

        yield run
        orm.close()
        threads.close()
        closing(Group.objects.using(alias).all().delete)

    @pytest.mark.parametrize("how", SPOILT)
    async def test_a_spoilt_connection_does_not_hurt_the_next_task(self, in_lane, alias, how):
        assert await in_lane(workapp._spoil, how) == (None, None)
        _, error = await in_lane(workapp.add_group.func, f"after {how}")
        names = await asyncio.to_thread(closing, lambda: set(Group.objects.using(alias).values_list("name", flat=True)))

        assert error is None
        assert f"after {how}" in names
        assert "never committed" not in names

    async def test_a_connection_is_kept_for_as_long_as_the_project_says(self, in_lane, max_age, alias):
        def connect():
            connections[alias].ensure_connection()
            return connections[alias], connections[alias].connection

        (wrapper, first), _ = await in_lane(connect)
        if max_age == 0:
            await soon(lambda: wrapper.connection is None)
        else:
            assert (await in_lane(connect))[0] == (wrapper, first)
