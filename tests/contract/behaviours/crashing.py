"""What becomes of the tasks of an owner that died."""

from dataclasses import replace as replaced

import pytest
from msgspec.structs import replace

from django_vtasks.brokers.base import Ack, Death, Owner, Reclaimed, Release
from tests.contract.given import ALICE, BOB, a_task, tasks
from tests.contract.steps import crash, every_ending, ids, ids_of, picture, take, take_one
from tests.contract.threads import aside


class Crashing:
    async def test_a_dead_owners_tasks_wait_again_with_the_crash_counted(self, broker):
        sent = tasks(2)
        await broker.apush(sent)
        await take(broker)

        reclaimed = await crash(broker)

        assert sorted(reclaimed.returned) == sorted(ids_of(sent))
        assert reclaimed.buried == []
        claims = await take(broker, owner=BOB, suspects=True)
        assert [(claim.envelope.attempt, claim.envelope.crashes) for claim in claims] == [(2, 1)] * 2

    async def test_a_dead_owners_tasks_go_back_to_their_old_place(self, broker):
        sent = [a_task(priority=1), *tasks(3)]
        await broker.apush(sent)
        await take(broker, 2)

        await crash(broker, running=[])

        assert ids(await take(broker)) == ids_of(sent)

    @pytest.mark.parametrize("other", [BOB, replaced(ALICE, slot="mail#10"), replaced(ALICE, incarnation=2)], ids=str)
    async def test_a_reclaim_takes_from_one_owner_only(self, broker, other):
        await broker.apush(tasks(2))
        await take_one(broker)
        claim = await take_one(broker, owner=other)

        assert len((await crash(broker)).returned) == 1

        assert await broker.settle(other, [Ack(claim)]) == [True]

    async def test_a_reclaim_repeated_changes_nothing(self, broker):
        await broker.apush(tasks(1))
        await take_one(broker)
        await crash(broker)

        assert await crash(broker) == Reclaimed([], [])

        assert (await take_one(broker, suspects=True)).envelope.crashes == 1

    async def test_a_reclaim_from_an_owner_who_holds_nothing_is_empty(self, broker):
        assert await crash(broker, Owner("nowhere", "mail#1")) == Reclaimed([], [])

    @pytest.mark.parametrize("max_rescues", [0, 2])
    async def test_a_task_that_kills_its_owners_is_given_up_as_poison(self, broker, max_rescues):
        sent = a_task(max_rescues=max_rescues)
        await broker.apush([sent])
        for crashes in range(max_rescues):
            await take_one(broker, suspects=crashes > 0)
            assert await crash(broker) == Reclaimed([sent.id], [])
        await take_one(broker, suspects=max_rescues > 0)

        assert await crash(broker) == Reclaimed([], [sent.id])

        assert await take(broker) == await take(broker, suspects=True) == []
        [entry] = await aside(broker.failed)
        assert (entry.id, entry.task) == (sent.id, "demo.tasks.send")
        assert (entry.attempts, entry.crashes) == (max_rescues + 1, max_rescues + 1)

    async def test_poison_names_its_cause(self, broker):
        await broker.apush(tasks(1, max_rescues=0))
        await take_one(broker)

        await aside(broker.reclaim, ALICE, Death("killed by SIGSEGV"))

        [entry] = await aside(broker.failed)
        assert entry.failure.exception == "django_vtasks.errors.WorkerLost"
        assert "killed by SIGSEGV" in entry.failure.message
        assert "1" in entry.failure.message
        assert entry.failure.traceback == ""

    async def test_poison_shows_where_its_owner_stood(self, broker):
        await broker.apush(tasks(1, max_rescues=0))
        await take_one(broker)

        await aside(broker.reclaim, ALICE, Death("blocked for 60 s", traceback='File "mail.py", line 3 in send'))

        [entry] = await aside(broker.failed)
        assert entry.failure.traceback == 'File "mail.py", line 3 in send'

    async def test_poison_does_not_take_its_neighbours_along(self, broker):
        poison, innocent = a_task(max_rescues=0), a_task()
        await broker.apush([poison, innocent])
        await take(broker)

        assert await crash(broker) == Reclaimed([innocent.id], [poison.id])

    async def test_giving_back_counts_no_crash(self, broker):
        await broker.apush(tasks(1, max_rescues=0))

        for _ in range(3):
            await broker.settle(ALICE, [Release(await take_one(broker))])

        claim = await take_one(broker)
        assert (claim.envelope.attempt, claim.envelope.crashes) == (1, 0)

    async def test_a_crash_before_the_claim_finds_the_task_waiting(self, broker, backdoor):
        sent = a_task()
        await broker.apush([sent])

        await aside(backdoor.expire_lease, ALICE.node)
        assert await aside(broker.reclaim_expired, BOB.node, "host lost") == Reclaimed([], [])

        assert (await take_one(broker, owner=BOB)).envelope == replace(sent, attempt=1)

    @every_ending
    async def test_a_crash_after_the_settlement_changes_nothing(self, broker, backdoor, ending):
        await broker.apush(tasks(1))
        await broker.settle(ALICE, [ending(await take_one(broker))])
        before = await picture(broker)

        assert await crash(broker) == Reclaimed([], [])
        await aside(backdoor.expire_lease, ALICE.node)
        assert await aside(broker.reclaim_expired, BOB.node, "host lost") == Reclaimed([], [])

        assert await picture(broker) == before

    async def test_a_crash_between_two_settlements_returns_the_rest(self, broker):
        sent = tasks(3)
        await broker.apush(sent)
        claims = await take(broker)
        await broker.settle(ALICE, [Ack(claims[0])])

        assert sorted((await crash(broker)).returned) == sorted(ids_of(sent[1:]))
