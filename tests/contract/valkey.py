"""The contract as those servers keep it that speak Valkey's language, and the way into each."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import pytest
import valkey

from django_vtasks.brokers.base import Bury, Depth, Retrial, Tick
from django_vtasks.brokers.valkey import ValkeyBroker
from django_vtasks.brokers.valkey import schedule as schedules
from django_vtasks.brokers.valkey.entry import Entry
from django_vtasks.brokers.valkey.keys import Keys
from django_vtasks.brokers.valkey.pipe import Pipe
from django_vtasks.envelope import Envelope
from django_vtasks.errors import BrokerUnavailable
from tests.contract.broker import BrokerContract
from tests.contract.given import ALICE, BOB, FAILURE, NOON, a_task, due, in_an_hour, mutex, tasks
from tests.contract.steps import SOON, idle_claim, schedule, take
from tests.contract.threads import aside, at_once

PREFIX = "{test}"


class ValkeyBackdoor:
    """One database of a server, emptied."""

    keeps_age = False

    def __init__(self, url: str, failed_cap: int = 1000) -> None:
        self._url = url
        self._failed_cap = failed_cap
        self._keys = Keys(PREFIX)
        self._client = valkey.Valkey.from_url(url)
        self._client.flushdb()
        self._opened: list[ValkeyBroker] = []

    def open(self) -> ValkeyBroker:
        broker = self.make()
        self._opened.append(broker)
        return broker

    def make(self) -> ValkeyBroker:
        return ValkeyBroker(self._url, prefix=PREFIX, failed_cap=self._failed_cap)

    def close(self) -> None:
        for broker in self._opened:
            broker.close()
        self._client.close()

    def corrupt(self, task_id: str, payload: bytes) -> None:
        self._replace(task_id, payload)

    def payload_of(self, task_id: str) -> bytes:
        _, _, stored = self._find(task_id)
        return Entry.parse(stored).payload

    def make_due(self, task_id: str) -> None:
        key, _, stored = self._find(task_id)
        assert self._client.zadd(key, {stored: 1}, xx=True, ch=True) == 1

    def places(self) -> list[tuple[str, str]]:
        names = {"waiting": "waiting", "delayed": "delayed", "suspects": "suspect", "flight": "running"}
        return [(Entry.parse(stored).id, names[place]) for place, _, stored in self._all()]

    def locks(self) -> dict[str, str]:
        keys = self._client.keys(f"{PREFIX}:lock:*")
        return {key.decode().rpartition(":")[2]: self._client.get(key).decode() for key in keys}

    def lapse_lock(self, key: str) -> None:
        assert self._client.pexpire(self._keys.lock(key), 0)

    def expire_lease(self, node: str) -> None:
        assert self._client.zscore(self._keys.nodes, node)
        self._client.zadd(self._keys.nodes, {node: 1})

    def spoil(self, queue: str) -> None:
        """Put something into the place of a queue that is no queue."""
        self._client.set(self._keys.waiting(queue), "spoilt")

    def pause(self, seconds: float) -> None:
        """Let the server keep all commands waiting for a while."""
        self._client.client_pause(round(seconds * 1000))

    @contextmanager
    def full(self) -> Iterator[None]:
        """Let the server have no memory left for a while."""
        self._client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            self._client.config_set("maxmemory", 0)

    def end_term(self, role: str) -> None:
        assert self._client.exists(self._keys.leader(role))
        self._client.hset(self._keys.leader(role), "expires", 1)

    def backdate(self, entry: str) -> None:
        _, _, timetable = self._client.hget(self._keys.schedule, entry).partition(b" ")
        self._client.hset(self._keys.schedule, entry, b"1000000 " + timetable)

    def drop_lease(self, node: str) -> None:
        assert self._client.zrem(self._keys.nodes, node) == 1

    def _replace(self, task_id: str, payload: bytes) -> None:
        key, index, stored = self._find(task_id)
        self._client.lset(key, index, bytes(Entry.parse(stored)._replace(payload=payload)))

    def _find(self, task_id: str):
        [found] = [
            (key, index, stored)
            for place, (key, index), stored in self._all()
            if place != "flight" and Entry.parse(stored).id == task_id
        ]
        return found

    def _all(self):
        for key in self._client.keys(f"{PREFIX}:*"):
            place = key.decode().split(":")[1]
            if place in {"waiting", "suspects"}:
                entries = enumerate(self._client.lrange(key, 0, -1))
            elif place == "delayed":
                entries = enumerate(self._client.zrange(key, 0, -1))
            elif place == "flight":
                entries = enumerate(self._client.hvals(key))
            else:
                continue
            yield from ((place, (key, index), stored) for index, stored in entries)


class ValkeyContract(BrokerContract):
    @staticmethod
    def in_order(*pushed):
        """What is urgent goes before all that waits, the rest behind it."""
        line: list[Envelope] = []
        for task in chain(*pushed):
            line.insert(0 if task.priority > 0 else len(line), task)
        return line

    @staticmethod
    def suspects_in_order(*crashed):
        """One group after the other, each in the order of its claim."""
        return list(chain(*map(ValkeyContract.in_order, crashed)))

    @pytest.fixture
    def server(self):
        raise NotImplementedError

    @pytest.fixture
    def backdoor(self, server, failed_cap):
        backdoor = ValkeyBackdoor(server, failed_cap)
        yield backdoor
        backdoor.close()

    @pytest.mark.parametrize("moment", ["before", "behind"])
    async def test_a_claim_that_is_cancelled_in_the_turn_of_its_answer_is_given_back(self, broker, monkeypatch, moment):
        await broker.claim(ALICE, "mail", 9)
        await broker.apush(tasks(3))
        arrived = Pipe.buffer_updated

        def arrive(pipe, size):
            if moment == "before":
                claiming.cancel()
            arrived(pipe, size)
            claiming.cancel()

        claiming = asyncio.create_task(broker.claim(ALICE, "mail", 9))
        monkeypatch.setattr(Pipe, "buffer_updated", arrive)
        await asyncio.wait({claiming}, timeout=SOON)
        monkeypatch.undo()
        assert claiming.cancelled()

        for _ in range(3):
            assert len(await broker.claim(BOB, "mail", 1, wait=SOON)) == 1

    @pytest.mark.parametrize("wait", [0.0, 60.0], ids=["at once", "on the bell"])
    async def test_what_the_server_books_for_a_claim_that_was_cancelled_is_given_back(self, broker, backdoor, wait):
        """It would be nobody's until the owner's next look at what is booked on it, and a paused owner never looks."""
        claiming = await idle_claim(broker) if wait else None
        await aside(backdoor.pause, 0.4)
        if claiming is None:
            claiming = asyncio.create_task(broker.claim(ALICE, "mail", 9))
            await asyncio.wait({claiming}, timeout=0.1)
        pushing = asyncio.ensure_future(broker.apush(tasks(2)))
        await asyncio.wait({pushing}, timeout=0.1)

        claiming.cancel()
        await asyncio.wait({claiming}, timeout=SOON)
        assert claiming.cancelled()

        await asyncio.wait_for(pushing, SOON)
        async with asyncio.timeout(SOON):
            while broker._late or await aside(broker.depth, "mail") != Depth(waiting=2, delayed=0, running=0):  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.01)
        claims = await take(broker)
        assert [claim.envelope.attempt for claim in claims] == [1, 1]

    async def test_behind_the_bell_the_server_claims_one_task_only(self, broker, second_broker):
        """A room full of them would wait for as long as the actor is blocked, or frozen, while others idle."""
        idle = asyncio.create_task(broker.claim(ALICE, "mail", 20, wait=60.0))
        await asyncio.wait({idle}, timeout=0.1)

        await second_broker.apush(tasks(20))

        assert len(await asyncio.wait_for(idle, SOON)) == 1
        assert len(await take(broker)) == 19

    async def test_a_queue_that_is_spoilt_is_nothing_to_the_pushes_beside_it(self, broker, backdoor):
        await aside(backdoor.spoil, "bad")
        await broker.apush(tasks(1))

        async def push(queue):
            return await broker.apush(tasks(1, queue=queue))

        fates = await asyncio.gather(*map(push, ("first", "bad", "mail", "images")), return_exceptions=True)

        assert [fate for fate in fates if not isinstance(fate, BrokerUnavailable)] == [[True]] * 3
        assert isinstance(fates[1], BrokerUnavailable)
        assert "WRONGTYPE" in str(fates[1])
        assert await aside(broker.queues) == ["first", "images", "mail"]

    async def test_a_queue_that_is_spoilt_holds_up_its_own_slots_only(self, broker, backdoor, caplog):
        await schedule(broker, backdoor, "report", "bad", "cleanup")
        await aside(backdoor.spoil, "spoilt")
        dues = [
            due("report", NOON),
            due("bad", NOON, queue="spoilt", unique=mutex()),
            due("cleanup", NOON, run_after=in_an_hour()),
        ]

        assert await aside(broker.tick, dues) == [Tick.ENQUEUED, Tick.HELD_UP, Tick.ENQUEUED]
        assert await aside(broker.tick, dues) == [Tick.TAKEN, Tick.HELD_UP, Tick.TAKEN]
        assert sum("WRONGTYPE" in message for message in caplog.messages) == 1
        standings = await aside(broker.standings)
        assert {entry: each.last for entry, each in standings.items()} == {"report": NOON, "bad": None, "cleanup": NOON}
        assert await aside(broker.depth, "mail") == Depth(waiting=1, delayed=1, running=0)
        assert await aside(backdoor.locks) == {}

    async def test_slots_that_too_few_replicas_have_are_enqueued_all_the_same(self, broker, backdoor, caplog):
        """To do them again would do nothing, and nobody would be told of them."""
        await schedule(broker, backdoor, "report", "cleanup")
        await aside(broker.tick, [due("cleanup", NOON)])
        broker._replicas = 9
        dues = [due("report", NOON, unique=mutex()), due("cleanup", NOON), due("cleanup", NOON + 60, unique=mutex())]

        assert await aside(broker.tick, dues) == [Tick.ENQUEUED, Tick.TAKEN, Tick.REFUSED]
        assert await aside(broker.tick, dues) == [Tick.TAKEN] * 3
        assert sum("MIN_REPLICAS" in message for message in caplog.messages) == 1

    async def test_a_task_whose_queue_is_spoilt_stays_in_the_failed_list_with_its_lock_free(self, broker, backdoor):
        await broker.apush([task := a_task(unique=mutex())])
        [claim] = await take(broker)
        await broker.settle(ALICE, [Bury(claim, FAILURE)])
        await aside(backdoor.spoil, "mail")

        with pytest.raises(BrokerUnavailable, match="WRONGTYPE"):
            await aside(broker.retry_failed, [task.id])

        assert [entry.id for entry in await aside(broker.failed)] == [task.id]
        assert await aside(backdoor.locks) == {}

    async def test_slots_of_a_call_that_fails_half_way_are_known(self, broker, backdoor, monkeypatch, caplog):
        names = [f"entry-{number}" for number in range(schedules.AT_ONCE + 1)]
        await schedule(broker, backdoor, *names)
        dues = [due(name, NOON) for name in names]
        call, calls = broker._link.call, []

        def fail_later(*args, **kwargs):
            calls.append(args)
            if len(calls) > 1:
                raise BrokerUnavailable("away")
            return call(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(broker._link, "call", fail_later)
            ticks = await aside(broker.tick, dues)
            with pytest.raises(BrokerUnavailable):
                await aside(broker.tick, dues)

        assert ticks == [Tick.ENQUEUED] * schedules.AT_ONCE + [Tick.HELD_UP]
        assert caplog.messages == ["Slots are held up: away"]
        assert await aside(broker.tick, dues) == [Tick.TAKEN] * schedules.AT_ONCE + [Tick.ENQUEUED]

    async def test_a_push_whose_task_is_cancelled_does_not_hold_up_the_next(self, broker):
        first = asyncio.ensure_future(broker.apush(tasks(1)))
        while not (others := asyncio.all_tasks() - {first, asyncio.current_task()}):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        for other in others:
            other.cancel()
        await asyncio.wait({first}, timeout=SOON)

        assert await asyncio.wait_for(broker.apush(tasks(1)), SOON) == [True]

    async def test_an_operator_may_pause_and_make_room_when_memory_is_full(self, broker, backdoor):
        await broker.apush([*tasks(3), *tasks(1, run_after=in_an_hour())])
        failing = await take(broker, 3)
        await broker.settle(ALICE, [Bury(claim, FAILURE) for claim in failing])
        retried, deleted, _ = [claim.envelope.id for claim in failing]

        def operate():
            with pytest.raises(BrokerUnavailable, match="has no memory left"):
                broker.push(tasks(1))
            broker.pause("images")
            assert broker.paused() == {"images"}
            broker.resume("images")
            assert broker.paused() == set()
            assert broker.retry_failed([retried]) == {retried: Retrial.RETRIED}
            assert broker.delete_failed([deleted]) == {deleted}
            assert broker.clear("mail") == 2
            assert broker.clear_failed() == 1

        def operate_without_memory():
            with backdoor.full():
                operate()

        await aside(operate_without_memory)

    async def test_emptying_the_failed_list_counts_what_it_deletes_though_others_empty_it_too(self, broker, backdoor):
        await broker.apush(tasks(200))
        await broker.settle(ALICE, [Bury(claim, FAILURE) for claim in await take(broker, 200)])

        assert sum(await asyncio.to_thread(at_once, lambda _: backdoor.open().clear_failed(), 8)) == 200

    def test_loops_that_have_ended_are_forgotten(self, broker, backdoor):
        store = backdoor.open()

        async def push():
            await store.apush(tasks(1))

        for _ in range(5):
            asyncio.run(push())
        gc.collect()

        assert max(len(store._outboxes), len(store._link._loops)) <= 2

    def test_closing_a_broker_does_not_break_the_calls_of_other_threads(self, broker, backdoor):
        store = backdoor.open()

        def work(number):
            for _ in range(50):
                if number:
                    assert store.push(tasks(1)) == [True]
                else:
                    store.close()

        at_once(work, 4)

        assert store.depth("mail").waiting == 150
