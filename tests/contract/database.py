"""What a store in a database promises beside the contract: a push belongs to the caller's transaction."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import ClassVar

import pytest
from django.db import DataError, OperationalError, connections, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from django_vtasks.brokers.base import Ack, Bury, Death, Depth, Release, Retrial, TaskFailure, Tick
from django_vtasks.brokers.database import DatabaseBroker
from django_vtasks.db.models import LeaderRow, LockRow, NodeRow, SlotRow, TaskRow, TaskState
from django_vtasks.errors import BrokerUnavailable
from tests.contract import halfway
from tests.contract.broker import BrokerContract
from tests.contract.given import (
    ALICE,
    BOB,
    ENDINGS,
    FAILURE,
    NOON,
    a_task,
    due,
    in_an_hour,
    key,
    mutex,
    tasks,
    throttle,
)
from tests.contract.steps import AT_ONCE, SOON, idle_claim, ids_of, schedule, suspect, take, take_one
from tests.contract.threads import aside, closing, elsewhere

LONG_AGO = 1


class Rollback(Exception):
    """Ends a transaction of a test."""


class DatabaseBackdoor:
    """The tables of one alias, emptied."""

    keeps_age = True

    def __init__(self, alias: str, failed_cap: int = 1000) -> None:
        self._alias = alias
        self._failed_cap = failed_cap
        self._opened: list[DatabaseBroker] = []

    def open(self) -> DatabaseBroker:
        self._opened.append(DatabaseBroker(using=self._alias, failed_cap=self._failed_cap))
        return self._opened[-1]

    def close(self) -> None:
        """Let the threads of all brokers end, and with them their connections."""
        for broker in self._opened:
            for gateway in (broker._gateway, broker._lease_gateway, broker._role_gateway, broker._look_gateway):
                gateway.abandon()

    def corrupt(self, task_id: str, payload: bytes) -> None:
        self._one(TaskRow, task_id=task_id).update(payload=payload)

    def payload_of(self, task_id: str) -> bytes:
        return bytes(TaskRow.objects.using(self._alias).get(task_id=task_id).payload)

    def make_due(self, task_id: str) -> None:
        self._one(TaskRow, task_id=task_id, state=TaskState.DELAYED).update(due=LONG_AGO)

    def places(self) -> list[tuple[str, str]]:
        rows = TaskRow.objects.using(self._alias).values_list("task_id", "state")
        return [(task_id, str(TaskState(state).label)) for task_id, state in rows]

    def locks(self) -> dict[str, str]:
        locks = LockRow.objects.using(self._alias).exclude(expires=LONG_AGO)
        return dict(locks.values_list("key", "task_id"))

    def lapse_lock(self, key: str) -> None:
        self._one(LockRow, key=key, expires__isnull=False).update(expires=LONG_AGO)

    def expire_lease(self, node: str) -> None:
        self._one(NodeRow, name=node).update(expires=LONG_AGO)

    def end_term(self, role: str) -> None:
        self._one(LeaderRow, role=role).update(expires=LONG_AGO)

    def backdate(self, entry: str) -> None:
        self._one(SlotRow, entry=entry, timetable__isnull=False).update(since=LONG_AGO)

    def drop_lease(self, node: str) -> None:
        self._one(NodeRow, name=node).delete()

    def undo_claim(self, task_id: str) -> None:
        """Do what a crash of a server does whose workers do not wait for the disk."""
        self._one(TaskRow, task_id=task_id, state=TaskState.RUNNING).update(
            state=TaskState.WAITING, owner=None, node=None, fence=F("fence") - 1, attempt=F("attempt") - 1
        )

    def _one(self, model, **conditions):
        rows = model.objects.using(self._alias).filter(**conditions)
        assert rows.count() == 1, f"{model.__name__} has not exactly one row with {conditions}"
        return rows


class DatabaseContract(BrokerContract):
    alias: ClassVar[str]

    @pytest.fixture
    def backdoor(self, database, failed_cap):
        backdoor = DatabaseBackdoor(database(self.alias), failed_cap)
        yield backdoor
        backdoor.close()

    def atomic(self):
        return transaction.atomic(using=self.alias)

    def test_a_push_can_be_seen_when_its_transaction_commits_and_not_before(self, broker):
        with self.atomic():
            broker.push(tasks(2))
            assert elsewhere(broker.depth, "mail") == Depth(0, 0, 0)

        assert elsewhere(broker.depth, "mail") == Depth(waiting=2, delayed=0, running=0)

    @pytest.mark.parametrize("lock", [None, mutex(), throttle()], ids=["plain", "mutex", "throttle"])
    def test_a_rollback_leaves_neither_task_nor_lock(self, broker, lock):
        with suppress(Rollback), self.atomic():
            assert broker.push([a_task(unique=lock), *tasks(50), a_task(run_after=1e10)]) == [True] * 52
            raise Rollback

        assert broker.queues() == []
        assert broker.push([a_task(unique=lock)]) == [True]

    def test_a_rollback_to_a_savepoint_leaves_neither_task_nor_lock(self, broker):
        with self.atomic():
            kept = a_task(unique=mutex("kept"))
            broker.push([kept])
            with suppress(Rollback), self.atomic():
                broker.push([a_task(unique=mutex("undone"))])
                raise Rollback
            assert broker.push([a_task(unique=mutex("undone"), queue="images")]) == [True]

        assert broker.queues() == ["images", "mail"]
        assert broker.depth("mail") == Depth(waiting=1, delayed=0, running=0)

    @pytest.mark.parametrize("lock", [mutex(), throttle()], ids=["mutex", "throttle"])
    def test_a_duplicate_leaves_the_transaction_usable(self, broker, lock):
        broker.push([a_task(unique=lock)])

        with self.atomic():
            assert broker.push([a_task(), a_task(unique=lock), a_task()]) == [True, False, True]
            assert LockRow.objects.using(self.alias).filter(key=key("report")).count() == 1
            assert broker.push(tasks(1)) == [True]

        assert broker.depth("mail") == Depth(waiting=4, delayed=0, running=0)

    def test_a_duplicate_of_the_same_transaction_is_refused(self, broker):
        with self.atomic():
            assert broker.push([a_task(unique=mutex())]) == [True]
            assert broker.push([a_task(unique=mutex())]) == [False]

        assert broker.depth("mail") == Depth(waiting=1, delayed=0, running=0)

    @pytest.mark.parametrize("commits", [True, False], ids=["commits", "rolls back"])
    def test_an_equal_push_waits_for_the_outcome_of_the_first_ones_transaction(self, broker, commits):
        with ThreadPoolExecutor(1) as pool:
            with suppress(Rollback), self.atomic():
                assert broker.push([a_task(unique=mutex())]) == [True]
                second = pool.submit(closing, broker.push, [a_task(unique=mutex())])
                wait({second}, timeout=0.3)
                if not commits:
                    raise Rollback
            assert second.result(60) == [not commits]

        assert broker.depth("mail") == Depth(waiting=1, delayed=0, running=0)

    async def test_an_idle_claim_wakes_when_the_transaction_of_a_push_commits(self, broker, second_broker):
        idle = await idle_claim(broker)

        def push():
            with self.atomic():
                second_broker.push(tasks(1))

        await aside(push)

        assert len(await asyncio.wait_for(idle, AT_ONCE)) == 1

    @pytest.mark.parametrize("suspects", [False, True], ids=["ordinary", "suspects"])
    async def test_a_claim_that_does_not_wait_does_not_ask_to_be_woken(self, broker, monkeypatch, suspects):
        asked: list[str] = []
        monkeypatch.setattr(broker._wakeup, "arm", asked.append)

        assert await broker.claim(ALICE, "mail", 1, suspects=suspects) == []

        assert asked == []

    async def test_an_idle_claim_of_suspects_does_not_spin_on_a_delayed_task_that_is_due(
        self, broker, backdoor, monkeypatch
    ):
        looks = []
        look = broker._dialect.claim_suspects

        def counted(*args):
            looks.append(args)
            return look(*args)

        monkeypatch.setattr(broker._dialect, "claim_suspects", counted)
        due = a_task(run_after=in_an_hour())
        await broker.apush([due])
        await aside(backdoor.make_due, due.id)

        assert await broker.claim(ALICE, "mail", 1, wait=0.5, suspects=True) == []

        assert len(looks) < 20

    async def test_a_task_whose_claim_was_undone_by_a_crash_and_made_again_by_its_owner_ends_once(
        self, broker, backdoor
    ):
        await broker.apush(tasks(1))
        undone = await take_one(broker)
        await aside(backdoor.undo_claim, undone.envelope.id)
        again = await take_one(broker)

        assert await broker.settle(ALICE, [Bury(undone, FAILURE), Ack(again)]) == [True, False]

        assert again.receipt == undone.receipt
        assert [entry.id for entry in await aside(broker.failed)] == [again.envelope.id]

    async def test_a_suspects_claim_that_comes_too_late_is_undone(self, broker):
        await suspect(broker, tasks(1))
        late = await broker._call(broker._dialect.claim_suspects, ALICE, "mail", 9)

        broker._give_back(ALICE, late)

        assert await take(broker) == []
        claim = await take_one(broker, suspects=True)
        assert (claim.envelope.attempt, claim.envelope.crashes) == (2, 1)

    async def test_a_deadlock_halfway_through_a_settlement_does_not_forget_what_was_settled_before(
        self, broker, monkeypatch
    ):
        await broker.apush(tasks(3))
        first, second, third = await take(broker)
        bury, failures = broker._settling.bury, [OperationalError("deadlock")]

        def deadlock_once(*args):
            if failures:
                raise failures.pop()
            return bury(*args)

        monkeypatch.setattr(broker._settling, "bury", deadlock_once)
        monkeypatch.setattr(broker._dialect, "is_transient", lambda _: True)

        settlements = [Ack(first), Bury(second, FAILURE), Release(third)]
        assert await broker.settle(ALICE, settlements) == [True, True, True]

    async def test_a_failure_that_the_database_cannot_store_is_buried_in_ascii(self, broker, monkeypatch):
        await broker.apush(tasks(1))
        claim = await take_one(broker)
        take_failures = broker._failed.take

        def ascii_only(failures):
            if not all(failure.reason.message.isascii() for failure in failures):
                raise DataError("no such character")
            take_failures(failures)

        monkeypatch.setattr(broker._failed, "take", ascii_only)
        failure = TaskFailure("builtins.ValueError", "💥" * 10_000, "💥 at the end")

        assert await broker.settle(ALICE, [Bury(claim, failure)]) == [True]

        [entry] = await aside(broker.failed)
        assert entry.failure.message.startswith("\\U0001f4a5")
        assert len(entry.failure.message) <= 2000
        assert entry.failure.traceback == "\\U0001f4a5 at the end"

    def test_a_rollback_takes_a_clear_back(self, broker):
        broker.push([a_task(unique=mutex())])

        with suppress(Rollback), self.atomic():
            assert broker.clear("mail") == 1
            raise Rollback

        assert broker.push([a_task(unique=mutex()), a_task()]) == [False, True]
        assert broker.depth("mail") == Depth(waiting=2, delayed=0, running=0)

    async def test_a_rollback_takes_a_retrial_back(self, broker):
        task = a_task(unique=mutex())
        await broker.apush([task])
        await broker.settle(ALICE, [Bury(await take_one(broker), FAILURE)])

        def retry_in_vain():
            with suppress(Rollback), self.atomic():
                assert broker.retry_failed([task.id]) == {task.id: Retrial.RETRIED}
                raise Rollback

        await aside(retry_in_vain)

        assert await aside(broker.queues) == []
        assert await aside(broker.retry_failed, [task.id]) == {task.id: Retrial.RETRIED}

    @pytest.mark.parametrize(("call", "inside"), [("failed_count", "count"), ("evictions", "evictions")])
    async def test_what_metrics_ask_of_the_failed_list_has_a_deadline(self, call, inside, broker, monkeypatch):
        answer = threading.Event()
        broker._look_gateway.deadline = 0.2
        with monkeypatch.context() as patch:
            patch.setattr(broker._failed, inside, lambda: answer.wait(SOON))
            try:
                with pytest.raises(BrokerUnavailable):
                    await asyncio.wait_for(aside(getattr(broker, call)), AT_ONCE)
            finally:
                answer.set()

        broker._look_gateway.deadline = SOON
        assert await aside(getattr(broker, call)) == 0

    @pytest.mark.parametrize(
        ("call", "arguments"), [("lead", ("metrics", "north", 15.0)), ("resign", ("metrics", "x"))]
    )
    async def test_no_lease_waits_for_an_election(self, call, arguments, broker, monkeypatch):
        begun, answer = threading.Event(), threading.Event()

        def elect(*args):
            begun.set()
            answer.wait(SOON)

        monkeypatch.setattr(broker._schedule, call, elect)
        electing = asyncio.ensure_future(aside(getattr(broker, call), *arguments))
        try:
            assert await asyncio.to_thread(begun.wait, SOON)
            assert await asyncio.wait_for(aside(broker.renew, ALICE.node, 60.0), AT_ONCE) in {True, False}
            assert not electing.done()
        finally:
            answer.set()
            await electing

    @pytest.mark.parametrize("late", ["renewal", "making"])
    def test_a_renewal_that_is_held_up_until_its_lease_was_ended_leaves_none(self, late, broker, monkeypatch):
        """A slow line: nobody waits for the renewal any more, whose thread does not know that."""
        let_go, is_over = threading.Event(), threading.Event()
        holder, name = (broker._leases, "_in_time") if late == "renewal" else (broker._leases._tables, "nodes")
        go_on, renew = getattr(holder, name), broker._leases.renew

        def hold_up(*args, **conditions):
            if not conditions:
                let_go.wait(SOON)
            return go_on(*args, **conditions)

        def then_tell(*args):
            try:
                return renew(*args)
            finally:
                is_over.set()

        monkeypatch.setattr(broker._leases, "renew", then_tell)
        monkeypatch.setattr(holder, name, hold_up)
        with pytest.raises(BrokerUnavailable):
            broker.renew("east", 0.2)

        broker.leave("east")
        let_go.set()
        assert is_over.wait(SOON)
        assert "east" not in broker.nodes()
        assert broker.renew("east", 60.0) is False
        assert "east" in broker.nodes(), "who comes back has a lease of its own"

    async def test_a_retrial_that_ends_half_way_leaves_the_task_where_it_was(self, broker, backdoor, monkeypatch):
        await broker.apush([task := a_task(unique=throttle())])
        await broker.settle(ALICE, [Bury(await take_one(broker), FAILURE)])
        locks = await aside(backdoor.locks)

        def killed(*args):
            raise DataError

        with monkeypatch.context() as patch:
            patch.setattr(broker._retrials, "_insert", killed)
            with pytest.raises(DataError):
                await aside(broker.retry_failed, [task.id])

        assert ids_of(await aside(broker.failed)) == [task.id]
        assert await aside(backdoor.locks) == locks

    def test_what_an_operator_sees_within_a_transaction_is_what_it_has_done(self, broker):
        with self.atomic():
            broker.push(tasks(2))
            broker.pause("mail")

            assert broker.paused() == {"mail"}
            assert broker.glance(["mail"])["mail"].waiting == 2
            assert list(broker.oldest(["mail"])) == ["mail"]

    def test_who_is_killed_in_the_middle_of_a_tick_leaves_its_slots_open(self, broker, backdoor):
        broker.register({"report": "every minute", "cleanup": "every minute"})
        slot = in_an_hour()
        command = [sys.executable, "-m", halfway.__name__, self.alias, str(slot), "report", "cleanup"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
            try:
                assert killed.stdout is not None
                assert killed.stdout.readline() == "halfway\n"
                assert broker.depth("mail").waiting == 0
            finally:
                killed.kill()

        assert {standing.last for standing in broker.standings().values()} == {None}
        dues = [due("report", slot), due("cleanup", slot)]
        assert broker.tick(dues) == [Tick.ENQUEUED] * 2
        assert broker.tick(dues) == [Tick.TAKEN] * 2
        assert broker.depth("mail") == Depth(waiting=2, delayed=0, running=0)

    def test_every_store_in_a_database_says_that_it_is_transactional(self, broker):
        assert broker.capabilities.transactional


class LooksBeforeItLocks:
    """What holds where an enqueue with a lock takes several statements."""

    alias: ClassVar[str]

    def test_a_duplicate_is_refused_without_a_transaction(self, broker):
        broker.push([a_task(unique=mutex())])
        with CaptureQueriesContext(connections[self.alias]) as queries:
            assert broker.push([a_task(unique=mutex())]) == [False]

        assert [query["sql"].split()[0] for query in queries] == ["SELECT"]


class ServerContract(DatabaseContract):
    """What a database with row locks promises beside: nobody's transaction, however long, holds up the workers."""

    @contextmanager
    def open_transaction(self, function: Callable[..., object], *args: object) -> Iterator[Future[bool]]:
        """Keep a transaction open on another thread after a call in it, and commit it at the end; tell of the call."""
        called, done = threading.Event(), threading.Event()

        def transact() -> None:
            with self.atomic():
                function(*args)
                called.set()
                done.wait(SOON)

        with ThreadPoolExecutor(2) as pool:
            transacting = pool.submit(closing, transact)
            waiting = pool.submit(called.wait, SOON)
            try:
                yield waiting
            finally:
                done.set()
            transacting.result(SOON)

    @pytest.mark.parametrize("lock", [mutex(), mutex(ttl=60.0), throttle()], ids=["mutex", "brief mutex", "throttle"])
    @pytest.mark.parametrize("name", ["ack", "bury"])
    async def test_a_duplicate_refused_in_an_open_transaction_does_not_hold_up_the_holders_end(
        self, broker, name, lock
    ):
        await broker.apush([a_task(unique=lock)])
        claim = await take_one(broker)
        pushed = []

        with self.open_transaction(lambda: pushed.extend(broker.push([a_task(unique=lock)]))) as waiting:
            assert await asyncio.wrap_future(waiting)
            assert await asyncio.wait_for(broker.settle(ALICE, [ENDINGS[name](claim)]), AT_ONCE) == [True]

        assert pushed == [False]
        assert await broker.apush([a_task(unique=lock)]) == [not lock.keep]

    @pytest.mark.parametrize("name", ["ack", "bury"])
    async def test_a_lapsed_mutex_taken_over_in_an_open_transaction_does_not_hold_up_the_end_of_the_first_task(
        self, broker, backdoor, name
    ):
        await broker.apush([a_task(unique=mutex(ttl=60.0))])
        claim = await take_one(broker)
        await aside(backdoor.lapse_lock, key("report"))
        successor = a_task(unique=mutex())

        with self.open_transaction(broker.push, [successor]) as waiting:
            assert await asyncio.wrap_future(waiting)
            assert await asyncio.wait_for(broker.settle(ALICE, [ENDINGS[name](claim)]), AT_ONCE) == [True]

        assert await aside(backdoor.locks) == {key("report"): successor.id}

    async def test_a_lapsed_throttle_taken_over_in_an_open_transaction_does_not_hold_up_a_rescue(
        self, broker, backdoor
    ):
        victim = a_task()
        await broker.apush([a_task(unique=throttle(), queue="images"), a_task(unique=throttle("other")), victim])
        await take(broker)
        for name in ("report", "other"):
            await aside(backdoor.lapse_lock, key(name))
        await aside(backdoor.expire_lease, ALICE.node)
        successor = a_task(unique=throttle(), queue="images")

        with self.open_transaction(broker.push, [successor]) as waiting:
            assert await asyncio.wrap_future(waiting)
            reclaimed = await asyncio.wait_for(aside(broker.reclaim_expired, BOB.node, "host lost"), AT_ONCE)

        assert victim.id in reclaimed.returned
        assert await aside(LockRow.objects.using(self.alias).count) == 1
        assert await aside(backdoor.locks) == {key("report"): successor.id}

    async def test_a_lapsed_mutex_taken_over_in_an_open_transaction_does_not_hold_up_a_clear(self, broker, backdoor):
        await broker.apush([a_task(unique=mutex(ttl=60.0)), a_task(unique=mutex("other"))])
        await aside(backdoor.lapse_lock, key("report"))
        successor = a_task(unique=mutex(), queue="images")

        with self.open_transaction(broker.push, [successor]) as waiting:
            assert await asyncio.wrap_future(waiting)
            assert await asyncio.wait_for(aside(broker.clear, "mail"), AT_ONCE) == 2

        assert await aside(backdoor.locks) == {key("report"): successor.id}

    async def test_a_unique_task_that_an_open_transaction_enqueues_too_holds_up_its_own_entry_only(
        self, broker, backdoor
    ):
        await schedule(broker, backdoor, "report", "cleanup", "other")
        dues = [
            due("report", NOON, unique=mutex()),
            due("cleanup", NOON),
            due("report", NOON + 60, unique=mutex()),
            due("other", NOON, unique=mutex("other")),
        ]

        with self.open_transaction(broker.push, [a_task(unique=mutex())]) as waiting:
            assert await asyncio.wrap_future(waiting)
            ticks = await asyncio.wait_for(aside(broker.tick, dues), SOON)
            assert ticks == [Tick.HELD_UP, Tick.ENQUEUED, Tick.HELD_UP, Tick.ENQUEUED]
            standings = await aside(broker.standings)
            assert {entry: standing.last for entry, standing in standings.items()} == {
                "report": None,
                "cleanup": NOON,
                "other": NOON,
            }
            assert await aside(broker.depth, "mail") == Depth(waiting=2, delayed=0, running=0)

        assert await aside(broker.tick, dues) == [Tick.REFUSED, Tick.TAKEN, Tick.REFUSED, Tick.TAKEN]

    async def test_entries_without_a_unique_task_are_ticked_while_another_waits_for_its_lock(self, broker, backdoor):
        await schedule(broker, backdoor, "report", "cleanup")
        dues = [due("report", NOON, unique=mutex()), due("cleanup", NOON)]

        with self.open_transaction(broker.push, [a_task(unique=mutex())]) as waiting:
            assert await asyncio.wrap_future(waiting)
            ticking = asyncio.ensure_future(aside(broker.tick, dues))
            while await aside(broker.depth, "mail") != Depth(waiting=1, delayed=0, running=0):
                assert not ticking.done()

        assert await asyncio.wait_for(ticking, SOON) == [Tick.REFUSED, Tick.ENQUEUED]

    def lock_slots(self):
        list(SlotRow.objects.using(self.alias).select_for_update())

    async def test_who_registers_the_schedule_that_is_there_waits_for_nobody(self, broker, second_broker):
        entries = {"report": "every minute", "cleanup": "every hour"}
        registered = await aside(broker.register, entries)

        with self.open_transaction(self.lock_slots) as waiting:
            assert await asyncio.wrap_future(waiting)
            assert await asyncio.wait_for(aside(second_broker.register, entries), AT_ONCE) == registered

        assert (await aside(second_broker.register, entries | {"report": "now and then"}))["report"] != registered[
            "report"
        ]

    async def test_a_lost_node_whose_claim_is_still_open_holds_up_no_rescue_of_others_and_is_next(
        self, broker, backdoor
    ):
        """Its host has vanished in the middle of a claim, which the server does not know yet."""
        lost, other = a_task(), a_task(queue="images")
        await broker.apush([lost, other])
        await take(broker)
        await take(broker, owner=BOB, queue="images")
        for owner in (ALICE, BOB):
            await aside(backdoor.expire_lease, owner.node)

        def rescue():
            return broker.reclaim_expired("the rescuer", "host lost", {ALICE.node, BOB.node})

        claiming = NodeRow.objects.using(self.alias).filter(name=ALICE.node).select_for_update()
        with self.open_transaction(list, claiming) as waiting:
            assert await asyncio.wrap_future(waiting)
            first = await asyncio.wait_for(aside(rescue), AT_ONCE)
        second = await aside(rescue)

        assert (first.returned, second.returned) == ([other.id], [lost.id])
        assert await aside(broker.nodes) == {}

    def lock_tasks(self):
        list(TaskRow.objects.using(self.alias).select_for_update())

    async def test_a_keep_only_whose_caller_has_given_up_gives_nothing_away(self, broker):
        """It may begin before its deadline and end after the next claim."""
        others = set(threading.enumerate())  # of other tests' brokers, which end when they like
        await broker.apush(tasks(1))
        claim = await take_one(broker)
        broker._gateway.deadline = 0.5

        with self.open_transaction(self.lock_tasks) as waiting:
            assert await asyncio.wrap_future(waiting)
            threads = {thread for thread in threading.enumerate() if thread.name == f"vtasks-{self.alias}"} - others
            assert threads
            with pytest.raises(BrokerUnavailable):
                await broker.keep_only(ALICE, set())
        broker._gateway.deadline = SOON
        assert await broker.keep_only(ALICE, {claim.receipt}) == 0
        broker._gateway.abandon()
        broker._lease_gateway.abandon()
        for thread in threads:
            await asyncio.to_thread(thread.join, SOON)

        assert await broker.settle(ALICE, [Ack(claim)]) == [True]

    async def test_a_row_that_is_locked_when_its_owner_is_rescued_is_not_passed_over(self, broker):
        sent = tasks(2)
        await broker.apush(sent)
        await take(broker)
        death = Death("killed by SIGKILL")

        with self.open_transaction(self.lock_tasks) as waiting:
            assert await asyncio.wrap_future(waiting)
            with pytest.raises(OperationalError):
                await asyncio.wait_for(aside(broker.reclaim, ALICE, death), AT_ONCE)

        assert sorted((await aside(broker.reclaim, ALICE, death)).returned) == sorted(ids_of(sent))
