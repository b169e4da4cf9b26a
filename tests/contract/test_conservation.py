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

from django_vtasks.brokers.base import Ack, Claim, Owner, Retry
from django_vtasks.errors import LeaseLost
from tests.contract.backdoor import Backdoor, Store
from tests.contract.database import DatabaseBackdoor
from tests.contract.given import A_LEASE, AN_HOUR, ENDINGS, a_task, in_an_hour, mutex, throttle
from tests.contract.model import Model, ModelTask
from tests.contract.test_memory import MemoryBackdoor

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

    @rule(target=claims, number=brokers, turns=st.lists(st.tuples(owners, st.integers(1, 3)), min_size=1, max_size=3))
    def claim_in_turns(self, number: int, turns: list[tuple[Owner, int]]):
        return multiple(*[claimed for owner, limit in turns for claimed in self.claim(number, owner, limit)])

    def claim(self, number: int, owner: Owner, limit: int) -> list[tuple[Claim, int]]:
        if owner.node not in self.model.nodes:
            with pytest.raises(LeaseLost):
                self.runner.run(self.stores[number].claim(owner, "mail", limit))
            return []
        expected = self.model.claim(owner, limit)

        claims = self.runner.run(self.stores[number].claim(owner, "mail", limit))

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
    @rule(number=brokers, owner=owners)
    def crash(self, number: int, owner: Owner) -> None:
        self.rescue(self.model.held_by(owner), lambda: self.stores[number].reclaim(owner, "killed by SIGKILL"))

    @rule(node=nodes)
    def freeze(self, node: str) -> None:
        if node in self.model.nodes:
            self.model.nodes[node] = False
            self.backdoor.expire_lease(node)

    @rule(number=brokers)
    def reclaim_expired(self, number: int) -> None:
        alive = {node: True for node, runs in self.model.nodes.items() if runs}
        self.model.nodes = alive
        lost = [task for task in self.model.running() if task.owner and task.owner.node not in alive]
        self.rescue(lost, lambda: self.stores[number].reclaim_expired("host lost"))

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
        expected = self.model.claim(OWNERS[0], 1000)
        assert len(expected) == len(self.model.tasks)

        claims = self.runner.run(self.stores[0].claim(OWNERS[0], "mail", 1000))

        assert [claim.envelope.id for claim in claims] == [task.envelope.id for task in expected]
        acks = [Ack(claim) for claim in claims]
        assert self.runner.run(self.stores[0].settle(OWNERS[0], acks)) == [
            self.model.settle(OWNERS[0], ack, task.claims) for ack, task in zip(acks, expected, strict=True)
        ]
        self.each_lock_is_held_by_the_task_that_took_it_and_as_long_as_it_may()
        assert all(keep for _, keep in self.model.locks.values())

    def rescue(self, tasks: list[ModelTask], reclaim: Callable) -> None:
        expected = self.model.rescue(tasks)

        reclaimed = reclaim()

        assert sorted(reclaimed.returned) == sorted(expected.returned)
        assert sorted(reclaimed.buried) == sorted(expected.buried)

    def make_due(self, task: ModelTask) -> None:
        task.delayed = False
        self.backdoor.make_due(task.envelope.id)

    @staticmethod
    def seen(claim: Claim) -> tuple[str, int, int]:
        return claim.envelope.id, claim.envelope.attempt, claim.envelope.crashes


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
