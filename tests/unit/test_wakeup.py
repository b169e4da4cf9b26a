"""How an idle claim is woken: how often SQLite is looked at, and that PostgreSQL is listened to again."""

import asyncio
import threading
from time import monotonic, sleep

import pytest
from django.db import connections

from django_vtasks.brokers.database import wakeup
from django_vtasks.brokers.database.wakeup import LONGEST_LOOK, SHORTEST_LOOK, DataVersion, Listener
from django_vtasks.db.models import CounterRow
from tests.contract.threads import aside
from tests.unit.worker.doubles import soon

PATIENCE = 10.0


class Clock:
    """Tells the time that the test says."""

    now = 1000.0

    def __call__(self):
        return self.now


def wait_for_no_session(alias, query):
    """Return when no session is left whose last statement it was."""
    give_up_at = monotonic() + PATIENCE
    with connections[alias].cursor() as cursor:
        while cursor.execute("SELECT FROM pg_stat_activity WHERE query = %s", [query]).rowcount:
            assert monotonic() < give_up_at
            sleep(0.01)


@pytest.fixture
def alias(database):
    return database("default")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def data_version(alias, clock):
    made = DataVersion(alias, clock=clock)
    yield made
    made.close()


def commit(alias, name="anything"):
    CounterRow.objects.using(alias).create(name=name, value=1)


def notify(alias, channel, queue):
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [channel, queue])


class TestDataVersion:
    def test_it_looks_often_while_there_is_work_and_ever_more_seldom_in_a_silence(self, data_version, clock):
        pauses = []
        for silence in (0, 0.1, 1, 5, 3600):
            clock.now = 1000.0 + silence
            pauses.append(data_version.pause())

        assert pauses == pytest.approx([SHORTEST_LOOK, SHORTEST_LOOK, 0.02, 0.1, LONGEST_LOOK])

    def test_work_ends_a_silence(self, data_version, clock):
        clock.now += 3600
        data_version.found()

        assert data_version.pause() == SHORTEST_LOOK

    async def test_a_commit_that_brings_no_work_does_not_end_a_silence(self, data_version, alias, clock):
        clock.now += 3600
        since = data_version.arm("mail")
        await aside(commit, alias)

        assert await data_version.wait("mail", since, PATIENCE)
        assert data_version.pause() == LONGEST_LOOK

    async def test_work_of_one_queue_makes_the_next_look_of_all_come_soon(
        self, data_version, alias, clock, monkeypatch
    ):
        monkeypatch.setattr(wakeup, "LONGEST_LOOK", 3600.0)
        clock.now += 1e9
        waiting = asyncio.create_task(data_version.wait("mail", data_version.arm("mail"), PATIENCE))
        await asyncio.sleep(0)
        await aside(commit, alias)
        data_version.found()

        assert await asyncio.wait_for(waiting, PATIENCE / 2)

    async def test_one_timer_looks_for_all_queues(self, data_version, monkeypatch):
        looks = []

        def look():
            looks.append(1)
            return 1

        monkeypatch.setattr(data_version, "_version", look)
        queues = [f"queue-{number}" for number in range(20)]
        waits = [asyncio.create_task(data_version.wait(queue, 1, PATIENCE)) for queue in queues]
        await soon(lambda: len(looks) >= 3)
        for wait in waits:
            wait.cancel()

        assert len(looks) < len(queues)

    async def test_every_queue_that_waits_is_woken(self, data_version, alias):
        marks = {queue: data_version.arm(queue) for queue in ("mail", "images")}
        waits = [asyncio.create_task(data_version.wait(queue, since, PATIENCE)) for queue, since in marks.items()]
        await asyncio.sleep(0)
        await aside(commit, alias)

        assert await asyncio.gather(*waits) == [True, True]

    async def test_a_claim_that_comes_later_does_not_swallow_the_commit_another_waits_for(self, data_version, alias):
        since = data_version.arm("mail")
        waiting = asyncio.create_task(data_version.wait("mail", since, PATIENCE))
        await asyncio.sleep(0)
        await aside(commit, alias)
        later = data_version.arm("mail")

        assert await data_version.wait("mail", later, 0.02) is False
        assert await asyncio.wait_for(waiting, PATIENCE / 2) is True

    async def test_without_a_commit_a_wait_ends_with_its_time(self, data_version):
        assert await data_version.wait("mail", data_version.arm("mail"), 0.02) is False
        await asyncio.sleep(2 * LONGEST_LOOK)
        assert data_version._timer is None


class TestListener:
    @pytest.fixture
    def listener(self, database):
        return Listener(database("postgres"), "vtasks_test")

    async def test_the_end_of_an_earlier_attempt_does_not_forget_the_one_under_way(self, listener, monkeypatch):
        gate = threading.Event()
        opened = []
        open_ = listener._open

        def slow():
            gate.wait(PATIENCE)
            opened.append(open_())
            return opened[-1]

        monkeypatch.setattr(listener, "_open", slow)
        listener.arm("mail")
        await asyncio.sleep(0)
        listener.close()
        listener.arm("mail")
        second = listener._connecting
        for _ in range(3):
            await asyncio.sleep(0)

        assert listener._connecting is second
        listener.arm("mail")
        assert listener._connecting is second
        gate.set()
        await soon(lambda: listener._connection is not None and len(opened) == 2)
        await soon(lambda: sum(connection.closed for connection in opened) == 1)
        listener.close()

    async def test_a_server_that_does_not_answer_to_listen_is_asked_again(self, listener, monkeypatch, caplog):
        gate = threading.Event()
        attempts = []
        open_ = listener._open

        def hang():
            attempts.append(1)
            if len(attempts) == 1:
                gate.wait(PATIENCE)
            return open_()

        monkeypatch.setattr(listener, "_open", hang)
        monkeypatch.setattr(wakeup, "OPEN_WITHIN", 0.1)
        monkeypatch.setattr(wakeup, "RECONNECT_EVERY", 0.0)
        listener.arm("mail")
        await soon(lambda: listener._connecting is None)
        monkeypatch.setattr(wakeup, "OPEN_WITHIN", PATIENCE)
        listener.arm("mail")
        await soon(lambda: listener._connection is not None)
        gate.set()
        listener.close()

        assert "Cannot LISTEN on database postgres; polling instead" in caplog.text

    async def test_a_server_that_refuses_to_listen_keeps_no_connection(self, listener, monkeypatch):
        monkeypatch.setattr(wakeup, "RECONNECT_EVERY", 2 * PATIENCE)
        monkeypatch.setattr(listener, "_channel", "no channel")  # refused as by a server in recovery
        listener.arm("mail")
        await soon(lambda: listener._failed)
        await aside(wait_for_no_session, "postgres", "LISTEN no channel")
        listener.close()

    async def test_a_claim_that_comes_later_does_not_swallow_the_notification_another_waits_for(self, listener):
        listener.arm("mail")
        await soon(lambda: listener._connection is not None)
        looking = waited = listener.arm("mail")
        waiting = asyncio.create_task(listener.wait("mail", waited, PATIENCE))
        await asyncio.sleep(0)
        await aside(notify, "postgres", "vtasks_test", "mail")
        later = await soon(lambda: (mark := listener.arm("mail")) != looking and mark)

        assert await asyncio.wait_for(waiting, PATIENCE / 2) is True
        assert await listener.wait("mail", looking, PATIENCE) is True
        assert await listener.wait("mail", later, 0.02) is False
        listener.close()

    async def test_the_last_of_several_hosts_is_reached_before_the_attempt_is_given_up(self, behind_silent_hosts):
        listener = Listener(behind_silent_hosts, "vtasks_test")
        listener.arm("mail")
        await soon(lambda: listener._connection is not None, wakeup.OPEN_WITHIN)
        listener.close()
