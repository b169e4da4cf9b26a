"""Which node is alive, and what becomes of the tasks of one that is not."""

import asyncio
from dataclasses import replace as replaced

import pytest

from django_vtasks.brokers.base import Ack, Depth, Owner, Reclaimed
from django_vtasks.errors import LeaseLost
from tests.contract.backdoor import Backdoor
from tests.contract.given import A_LEASE, ALICE, BOB, a_task, tasks
from tests.contract.steps import ids, ids_of, take, take_one
from tests.contract.threads import aside, at_once


async def hold_everything(backdoor: Backdoor):
    broker = backdoor.open()
    await take(broker)
    await broker.aclose()


class Leases:
    async def test_without_a_lease_nothing_can_be_claimed(self, broker):
        await broker.apush(tasks(1))

        with pytest.raises(LeaseLost):
            await take(broker, owner=Owner("nowhere", "mail#1"))

        assert await aside(broker.depth, "mail") == Depth(waiting=1, delayed=0, running=0)

    async def test_without_a_lease_a_claim_fails_on_an_empty_queue_too(self, broker):
        with pytest.raises(LeaseLost):
            await take(broker, owner=Owner("nowhere", "mail#1"))

    async def test_a_lease_is_new_once(self, broker):
        assert await aside(broker.renew, "east", A_LEASE) is False
        assert await aside(broker.renew, "east", A_LEASE) is True

    async def test_a_lease_that_ran_out_is_held_until_it_is_reclaimed(self, broker, backdoor):
        await broker.apush(tasks(2))
        claim = await take_one(broker)
        await aside(backdoor.expire_lease, ALICE.node)

        assert await broker.settle(ALICE, [Ack(claim)]) == [True]
        await take_one(broker)
        assert await aside(broker.renew, ALICE.node, A_LEASE) is True
        assert await aside(broker.reclaim_expired, BOB.node, "host lost") == Reclaimed([], [])

    async def test_a_node_whose_lease_ran_out_loses_its_tasks_to_the_others(self, broker, second_broker, backdoor):
        sent = tasks(3)
        await broker.apush(sent)
        await take_one(broker)
        await take_one(broker, owner=replaced(ALICE, slot="mail#2"))
        kept = await take_one(broker, owner=BOB)
        await aside(backdoor.expire_lease, ALICE.node)

        reclaimed = await aside(second_broker.reclaim_expired, BOB.node, "host lost")

        assert sorted(reclaimed.returned) == sorted(ids_of(sent[:2]))
        assert [claim.envelope.crashes for claim in await take(broker, owner=BOB, suspects=True)] == [1, 1]
        assert await broker.settle(BOB, [Ack(kept)]) == [True]

    async def test_a_node_without_a_lease_row_loses_its_tasks_too(self, broker, backdoor):
        sent = a_task()
        await broker.apush([sent])
        await take_one(broker)
        await aside(backdoor.drop_lease, ALICE.node)

        assert await aside(broker.reclaim_expired, BOB.node, "host lost") == Reclaimed([sent.id], [])

    async def test_a_vanished_nodes_poison_is_buried(self, broker, backdoor):
        sent = a_task(max_rescues=0)
        await broker.apush([sent])
        await take_one(broker)
        await aside(backdoor.expire_lease, ALICE.node)

        assert await aside(broker.reclaim_expired, BOB.node, "host lost") == Reclaimed([], [sent.id])

        [entry] = await aside(broker.failed)
        assert "host lost" in entry.failure.message

    async def test_a_reclaimed_node_has_lost_its_lease_until_it_renews(self, broker, backdoor):
        await broker.apush(tasks(1))
        late = await take_one(broker)
        await aside(backdoor.expire_lease, ALICE.node)
        await aside(broker.reclaim_expired, BOB.node, "host lost")

        with pytest.raises(LeaseLost):
            await take(broker)
        assert await broker.settle(ALICE, [Ack(late)]) == [False]
        assert await aside(broker.renew, ALICE.node, A_LEASE) is False
        assert (await take_one(broker, suspects=True)).envelope.id == late.envelope.id

    async def test_while_every_lease_runs_nothing_is_reclaimed(self, broker):
        await broker.apush(tasks(1))
        claim = await take_one(broker)

        assert await aside(broker.reclaim_expired, BOB.node, "host lost") == Reclaimed([], [])

        assert await broker.settle(ALICE, [Ack(claim)]) == [True]

    async def test_nobody_reclaims_from_itself_however_late_it_comes(self, broker, backdoor):
        sent = tasks(2, max_rescues=0)
        await broker.apush(sent)
        claim = await take_one(broker)
        await take_one(broker, owner=BOB)
        for owner in (ALICE, BOB):
            await aside(backdoor.expire_lease, owner.node)

        assert await aside(broker.reclaim_expired, ALICE.node, "host lost") == Reclaimed([], [sent[1].id])

        assert await broker.settle(ALICE, [Ack(claim)]) == [True]
        assert await aside(broker.renew, ALICE.node, A_LEASE) is True
        assert await aside(broker.renew, BOB.node, A_LEASE) is False

    async def test_a_node_without_a_lease_row_does_not_reclaim_from_itself_either(self, broker, backdoor):
        await broker.apush(tasks(1, max_rescues=0))
        claim = await take_one(broker)
        await aside(backdoor.drop_lease, ALICE.node)

        assert await aside(broker.reclaim_expired, ALICE.node, "host lost") == Reclaimed([], [])

        assert await broker.settle(ALICE, [Ack(claim)]) == [True]

    def test_of_many_who_reclaim_at_once_one_gets_each_task(self, broker, backdoor):
        sent = tasks(40)
        broker.push(sent)
        asyncio.run(hold_everything(backdoor))
        backdoor.expire_lease(ALICE.node)

        results = at_once(lambda _: backdoor.open().reclaim_expired(BOB.node, "host lost"), 4)

        assert sorted(sum((result.returned for result in results), [])) == sorted(ids_of(sent))

    async def test_nodes_tells_how_long_each_lease_still_runs(self, broker, backdoor):
        await aside(broker.renew, "east", 30.0)
        await aside(backdoor.expire_lease, BOB.node)

        nodes = await aside(broker.nodes)

        assert 0 < nodes["east"] <= 30.0
        assert 30.0 < nodes[ALICE.node] <= A_LEASE
        assert nodes.get(BOB.node, 0.0) <= 0.0

    async def test_a_node_that_leaves_gives_back_what_it_held_unharmed(self, broker):
        sent = tasks(3, max_rescues=0)
        await broker.apush(sent)
        await take_one(broker)
        await take_one(broker, owner=replaced(ALICE, slot="mail#2"))

        await aside(broker.leave, ALICE.node)

        claims = await take(broker, owner=BOB)
        assert ids(claims) == ids_of(sent)
        assert {(claim.envelope.attempt, claim.envelope.crashes) for claim in claims} == {(1, 0)}

    async def test_a_node_that_left_claims_no_more(self, broker):
        await aside(broker.leave, ALICE.node)

        with pytest.raises(LeaseLost):
            await take(broker)
        assert ALICE.node not in await aside(broker.nodes)

    async def test_a_node_that_leaves_takes_nothing_from_the_others(self, broker):
        await broker.apush(tasks(1))
        claim = await take_one(broker, owner=BOB)

        await aside(broker.leave, ALICE.node)

        assert await broker.settle(BOB, [Ack(claim)]) == [True]

    async def test_leaving_twice_or_unknown_is_harmless(self, broker):
        await aside(broker.leave, ALICE.node)
        await aside(broker.leave, ALICE.node)
        await aside(broker.leave, "nowhere")

        assert set(await aside(broker.nodes)) == {BOB.node}

    async def test_a_lease_that_ran_out_is_kept_by_a_node_that_is_not_among_those_named(self, broker, backdoor):
        sent = tasks(2)
        await broker.apush(sent)
        claim = await take_one(broker)
        await take_one(broker, owner=BOB)
        for owner in (ALICE, BOB):
            await aside(backdoor.expire_lease, owner.node)

        assert await aside(broker.reclaim_expired, "east", "host lost", set()) == Reclaimed([], [])
        assert await aside(broker.reclaim_expired, "east", "host lost", {BOB.node}) == Reclaimed([sent[1].id], [])

        assert await broker.settle(ALICE, [Ack(claim)]) == [True]
        assert await aside(broker.renew, ALICE.node, A_LEASE) is True
        assert await aside(broker.renew, BOB.node, A_LEASE) is False

    async def test_a_node_that_is_named_and_has_renewed_meanwhile_keeps_what_it_holds(self, broker):
        await broker.apush(tasks(1))
        claim = await take_one(broker)

        assert await aside(broker.reclaim_expired, BOB.node, "host lost", {ALICE.node}) == Reclaimed([], [])
        assert await broker.settle(ALICE, [Ack(claim)]) == [True]

    async def test_a_node_without_a_lease_row_loses_its_tasks_whoever_is_named(self, broker, backdoor):
        sent = a_task()
        await broker.apush([sent])
        await take_one(broker)
        await aside(backdoor.drop_lease, ALICE.node)

        assert await aside(broker.reclaim_expired, BOB.node, "host lost", set()) == Reclaimed([sent.id], [])
