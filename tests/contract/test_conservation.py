"""Whatever happens in whatever order, each accepted task is in exactly one place and ends exactly once."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from django_vtasks.brokers.base import Ack, Claim, Death, Owner, Reclaimed, Retry
from django_vtasks.errors import LeaseLost
from tests.contract.backdoor import Backdoor, Store
from tests.contract.database import DatabaseBackdoor
from tests.contract.given import A_LEASE, AN_HOUR, ENDINGS, a_task, in_an_hour, mutex, throttle
from tests.contract.model import Model, ModelTask
from tests.contract.test_memory import MemoryBackdoor
from tests.contract.valkey import ValkeyBackdoor

NODES = ("north", "south")
OWNERS = (Owner("north", "mail#1"), Owner("north", "mail#2"), Owner("south", "mail#1"))
LOCKS = (mutex("a"), mutex("b", ttl=AN_HOUR), throttle("c"))
LAPSING = [lock for lock in LOCKS if lock.ttl]
# Each is a task's lock, priority, max_rescues and whether it is delayed.
PUSHES = st.lists(
    st.tuples(
        st.sampled_from((None, None, *LOCKS)),
        st.integers(-1, 1),
        st.integers(0, 2),
        st.sampled_from((False, False, False, True)),
    ),
    max_size=6,
)

brokers = st.integers(0, 1)
nodes = st.sampled_from(NODES)
owners = st.sampled_from(OWNERS)
# Each is an owner that claims up to so many tasks, and whether it claims suspects.
TURNS = st.tuples(owners, st.integers(1, 3), st.booleans())
endings = st.sampled_from([*ENDINGS.values(), lambda claim: Retry(claim, AN_HOUR)])


def several_run(machine: "Conservation") -> bool:
    """Keep what takes tasks away from owners for when it may take too many."""
    return len(machine.model.running()) > 1


class Conservation(RuleBasedStateMachine):
    """Two brokers on one store, three owners on two nodes, one queue."""

    claims = Bundle("claims")

    def __init__(self, backdoor: Backdoor) -> None:
        super().__init__()
        self.backdoor = backdoor
        self.stores: list[Store] = [backdoor.open(), backdoor.open()]
        self.runner = asyncio.Runner()
        self.model = Model()

    @initialize()
    def start(self) -> None:
        for node in NODES:
            self.renew(0, node)

    @rule(number=brokers, wanted=PUSHES)
    def push(self, number: int, wanted: list[tuple]) -> None:
        envelopes = [
            a_task(
                unique=unique,
                priority=priority,
                max_rescues=max_rescues,
                run_after=in_an_hour() if delayed else None,
            )
            for unique, priority, max_rescues, delayed in wanted
        ]
        expected = [self.model.push(envelope) for envelope in envelopes]

        assert self.stores[number].push(envelopes) == expected

    @rule(target=claims, number=brokers, turns=st.lists(TURNS, min_size=1, max_size=3))
    def claim_in_turns(self, number: int, turns: list[tuple[Owner, int, bool]]):
        return multiple(
            *[
                claimed
                for owner, limit, suspects in turns
                for claimed in self.claim(number, owner, limit, suspects=suspects)
            ]
        )

    def claim(self, number: int, owner: Owner, limit: int, *, suspects: bool) -> list[tuple[Claim, int]]:
        claiming = self.stores[number].claim(owner, "mail", limit, suspects=suspects)
        if owner.node not in self.model.nodes:
            with pytest.raises(LeaseLost):
                self.runner.run(claiming)
            return []
        claims = self.runner.run(claiming)

        chosen = None if self.backdoor.keeps_age else [claim.envelope.id for claim in claims]
        expected = self.model.claim(owner, limit, suspects=suspects, chosen=chosen)
        assert [self.seen(claim) for claim in claims] == [
            (task.envelope.id, task.attempt, task.crashes) for task in expected
        ]
        return [(claim, task.claims) for claim, task in zip(claims, expected, strict=True)]

    @rule(number=brokers, owner=owners, ended=st.lists(st.tuples(claims, endings), min_size=1, max_size=4))
    def settle(self, number: int, owner: Owner, ended: list) -> None:
        """End claims that the owner may or may not hold, each at most once in a call."""
        once = {claim.receipt: (ending(claim), ordinal) for (claim, ordinal), ending in ended}.values()
        expected = [self.model.settle(owner, settlement, ordinal) for settlement, ordinal in once]

        assert self.runner.run(self.stores[number].settle(owner, [settlement for settlement, _ in once])) == expected

    @rule(number=brokers, claimed=claims, ending=endings)
    def settle_as_claimed(self, number: int, claimed: tuple[Claim, int], ending) -> None:
        self.settle(number, claimed[0].owner, [(claimed, ending)])

    @precondition(several_run)
    @rule(number=brokers, owner=owners, known=st.lists(claims, max_size=3))
    def keep_only(self, number: int, owner: Owner, known: list) -> None:
        kept = {claim.envelope.id for claim, ordinal in known if self.model.holds(claim, ordinal)}
        strays = [task for task in self.model.held_by(owner) if task.envelope.id not in kept]
        expected = self.model.give_back(strays)

        receipts = [claim.receipt for claim, _ in known]
        assert self.runner.run(self.stores[number].keep_only(owner, receipts)) == expected

    @precondition(several_run)
    @rule(number=brokers, owner=owners, struck=st.none() | st.sets(st.integers(0, 3)))
    def crash(self, number: int, owner: Owner, struck: set[int] | None) -> None:
        """Let an owner die of some of the tasks that it holds, or of one that it does not hold any more."""
        held = self.model.held_by(owner)
        ids = dict(enumerate(task.envelope.id for task in held))
        running = None if struck is None else frozenset(ids.get(place, f"ended {place}") for place in struck)
        in_company = len(held if running is None else running) > 1
        rescuable = {task.envelope.id for task in held if task.envelope.max_rescues}
        expected = self.model.rescue(owner, running)
        death = Death("killed by SIGKILL", running)

        reclaimed = self.stores[number].reclaim(owner, death)

        assert_same(reclaimed, expected)
        assert not (in_company and rescuable.intersection(reclaimed.buried))
        assert self.stores[number].reclaim(owner, death) == Reclaimed([], [])

    @rule(node=nodes)
    def freeze(self, node: str) -> None:
        if node in self.model.nodes:
            self.model.nodes[node] = False
            self.backdoor.expire_lease(node)

    @rule(number=brokers, own=st.sampled_from((*NODES, "nowhere")))
    def reclaim_expired(self, number: int, own: str) -> None:
        self.model.nodes = {node: runs for node, runs in self.model.nodes.items() if runs or node == own}
        lost = [owner for owner in OWNERS if owner.node not in {own, *self.model.nodes}]
        rescued = [self.model.rescue(owner) for owner in lost]
        expected = Reclaimed(sum((part.returned for part in rescued), []), sum((part.buried for part in rescued), []))

        assert_same(self.stores[number].reclaim_expired(own, "host lost"), expected)

    @rule(number=brokers, node=nodes)
    def renew(self, number: int, node: str) -> None:
        expected = node in self.model.nodes
        self.model.nodes[node] = True

        assert self.stores[number].renew(node, A_LEASE) is expected

    @precondition(several_run)
    @rule(number=brokers, node=nodes)
    def leave(self, number: int, node: str) -> None:
        self.model.nodes.pop(node, None)
        self.model.give_back([task for task in self.model.running() if task.owner and task.owner.node == node])

        self.stores[number].leave(node)

    @precondition(lambda self: self.model.delayed())
    @rule(choice=st.integers(0, 99))
    def let_the_time_of_a_task_come(self, choice: int) -> None:
        delayed = self.model.delayed()
        self.make_due(delayed[choice % len(delayed)])

    @precondition(lambda self: any(lock.key in self.model.locks for lock in LAPSING))
    @rule(number=brokers, choice=st.integers(0, 99))
    def let_a_lock_lapse_and_pass_to_another_task(self, number: int, choice: int) -> None:
        lapsing = [lock for lock in LAPSING if lock.key in self.model.locks]
        lock = lapsing[choice % len(lapsing)]
        del self.model.locks[lock.key]
        self.backdoor.lapse_lock(lock.key)

        self.push(number, [(lock, 0, 2, False)])

    @precondition(several_run)
    @rule(number=brokers)
    def clear(self, number: int) -> None:
        assert self.stores[number].clear("mail") == self.model.clear()

    @invariant()
    def each_task_is_in_exactly_one_place(self) -> None:
        depth = self.stores[0].depth("mail")
        assert depth.waiting + depth.delayed == len(self.model.waiting())
        assert depth.running == len(self.model.running())
        assert self.stores[0].queues() == (["mail"] if self.model.tasks else [])
        assert self.model.accepted == len(self.model.tasks) + len(self.model.ended)

    @invariant()
    def no_task_stands_in_two_places(self) -> None:
        places = self.backdoor.places()
        assert sorted(task_id for task_id, _ in places) == sorted(self.model.tasks)
        for name, expected in (("running", self.model.running()), ("suspect", self.model.suspects())):
            assert {task_id for task_id, place in places if place == name} == {task.envelope.id for task in expected}

    @invariant()
    def suspects_are_counted(self) -> None:
        count = len(self.model.suspects())
        assert self.stores[0].suspects() == ({"mail": count} if count else {})

    @invariant()
    def each_lock_is_held_by_the_task_that_took_it_and_as_long_as_it_may(self) -> None:
        assert self.backdoor.locks() == {key: task_id for key, (task_id, _) in self.model.locks.items()}

    @invariant()
    def the_failed_stand_in_the_failed_list_once(self) -> None:
        assert sorted(entry.id for entry in self.stores[0].failed()) == sorted(self.model.failed)

    def teardown(self) -> None:
        try:
            self.everything_that_is_left_can_be_done()
        finally:
            for store in self.stores:
                self.runner.run(store.aclose())
            self.runner.close()

    def everything_that_is_left_can_be_done(self) -> None:
        for node in NODES:
            self.leave(0, node)
            self.renew(0, node)
        for task in self.model.delayed():
            self.make_due(task)
        for suspects in (False, True):
            left = self.claim(0, OWNERS[0], 1000, suspects=suspects)
            self.settle(0, OWNERS[0], [(claimed, Ack) for claimed in left])
        assert not self.model.tasks
        self.each_lock_is_held_by_the_task_that_took_it_and_as_long_as_it_may()
        assert all(keep for _, keep in self.model.locks.values())

    def make_due(self, task: ModelTask) -> None:
        task.delayed = False
        self.backdoor.make_due(task.envelope.id)

    @staticmethod
    def seen(claim: Claim) -> tuple[str, int, int]:
        return claim.envelope.id, claim.envelope.attempt, claim.envelope.crashes


def assert_same(reclaimed: Reclaimed, expected: Reclaimed) -> None:
    assert sorted(reclaimed.returned) == sorted(expected.returned)
    assert sorted(reclaimed.buried) == sorted(expected.buried)


def explore(open_backdoor: Callable[[], Backdoor], examples: int) -> None:
    run_state_machine_as_test(
        lambda: Conservation(open_backdoor()),  # type: ignore[arg-type]  # any factory will do
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            # A store's speed is not what is tested, and each example begins with an empty one.
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        ),
    )


def test_the_memory_conserves_tasks():
    explore(MemoryBackdoor, examples=200)


def test_sqlite_conserves_tasks(database):
    explore(lambda: DatabaseBackdoor(database("default")), examples=30)


def test_valkey_conserves_tasks(valkey_server):
    explore(lambda: ValkeyBackdoor(valkey_server), examples=30)


def test_redis_conserves_tasks(redis_server):
    explore(lambda: ValkeyBackdoor(redis_server), examples=30)
