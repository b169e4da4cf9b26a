"""What becomes of claims whose answer never arrived."""

from dataclasses import replace as replaced

from django_vtasks.brokers.base import Ack, Release
from tests.contract.given import ALICE, BOB, tasks
from tests.contract.steps import ids, take, take_one


class LostAnswers:
    async def test_keep_only_gives_back_what_the_owner_does_not_know_of(self, broker):
        sent = tasks(3)
        await broker.apush(sent)
        lost, kept, also_lost = await take(broker)

        assert await broker.keep_only(ALICE, [kept.receipt]) == 2

        again = await take(broker, owner=BOB)
        assert ids(again) == [lost.envelope.id, also_lost.envelope.id]
        assert {(claim.envelope.attempt, claim.envelope.crashes) for claim in again} == {(1, 0)}
        assert await broker.settle(ALICE, [Ack(kept), Ack(lost)]) == [True, False]

    async def test_keep_only_knows_claims_by_receipt_and_not_by_task(self, broker):
        await broker.apush(tasks(1))
        earlier = await take_one(broker)
        await broker.settle(ALICE, [Release(earlier)])
        await take_one(broker)

        assert await broker.keep_only(ALICE, [earlier.receipt]) == 1

    async def test_keep_only_gives_back_nothing_that_is_held(self, broker):
        await broker.apush(tasks(2))
        claims = await take(broker)

        assert await broker.keep_only(ALICE, {claim.receipt for claim in claims}) == 0

        assert await broker.settle(ALICE, [Ack(claim) for claim in claims]) == [True, True]

    async def test_keep_only_leaves_other_owners_alone(self, broker):
        await broker.apush(tasks(2))
        claim = await take_one(broker, owner=BOB)
        await take_one(broker, owner=replaced(ALICE, slot="mail#10"))

        assert await broker.keep_only(ALICE, []) == 0

        assert await broker.settle(BOB, [Ack(claim)]) == [True]
