"""Which tasks a crash is charged to."""

from dataclasses import replace as replaced

import pytest

from django_vtasks.brokers.base import Death, Reclaimed
from tests.contract.given import ALICE, BOB, a_task, tasks
from tests.contract.steps import crash, ids, ids_of, suspect, take, take_one
from tests.contract.threads import aside


def counts(claims):
    return [(claim.envelope.attempt, claim.envelope.crashes) for claim in claims]


class Blame:
    async def test_what_was_not_running_is_as_if_it_had_not_been_claimed(self, broker):
        sent = [a_task(priority=1), *tasks(3, max_rescues=0)]
        await broker.apush(sent)
        await take(broker, 3)

        reclaimed = await crash(broker, running=[])

        assert sorted(reclaimed.returned) == sorted(ids_of(sent[:3]))
        assert reclaimed.buried == []
        claims = await take(broker)
        assert ids(claims) == ids_of(sent)
        assert counts(claims) == [(1, 0)] * 4

    async def test_of_all_that_was_held_only_what_ran_is_charged(self, broker):
        sent = tasks(3)
        await broker.apush(sent)
        claims = await take(broker)

        reclaimed = await crash(broker, running=claims[1:2])

        assert sorted(reclaimed.returned) == sorted(ids_of(sent))
        innocent, charged = await take(broker), await take(broker, suspects=True)
        assert ids(innocent) == [sent[0].id, sent[2].id]
        assert counts(innocent) == [(1, 0), (1, 0)]
        assert ids(charged) == [sent[1].id]
        assert counts(charged) == [(2, 1)]

    @pytest.mark.parametrize("max_rescues", [0, 1, 3])
    async def test_a_task_that_runs_alone_is_buried_after_one_crash_more_than_its_rescues(self, broker, max_rescues):
        poison, innocents = a_task(max_rescues=max_rescues, priority=1), tasks(3, max_rescues=0)
        await broker.apush([poison, *innocents])
        for crashes in range(max_rescues):
            running = await take_one(broker, suspects=crashes > 0)
            await take(broker)
            assert (await crash(broker, running=[running])).buried == []
        running = await take_one(broker, suspects=max_rescues > 0)
        await take(broker)

        reclaimed = await crash(broker, running=[running])

        assert reclaimed.buried == [poison.id]
        [entry] = await aside(broker.failed)
        assert (entry.id, entry.attempts, entry.crashes) == (poison.id, max_rescues + 1, max_rescues + 1)
        assert counts(await take(broker)) == [(1, 0)] * 3

    async def test_tasks_that_run_in_company_are_never_buried(self, broker):
        sent = [a_task(max_rescues=1), a_task(max_rescues=2), a_task(max_rescues=9)]
        await broker.apush(sent)
        seen = []
        for crashes in range(5):
            claims = await take(broker, suspects=crashes > 0)
            seen.append(counts(claims))
            reclaimed = await crash(broker, running=claims)
            assert sorted(reclaimed.returned) == sorted(ids_of(sent))

        assert await aside(broker.failed_count) == 0
        assert seen[0] == [(1, 0)] * 3
        assert seen[1:] == [[(n + 1, 1), (n + 1, min(n, 2)), (n + 1, n)] for n in range(1, 5)]

    async def test_poison_that_crashed_in_company_is_buried_when_it_crashes_alone(self, broker):
        poison, innocent = sent = tasks(2, max_rescues=2)
        await suspect(broker, sent, crashes=4)
        first = await take_one(broker, suspects=True)
        await take(broker, suspects=True)

        assert await crash(broker, running=[first]) == Reclaimed([innocent.id], [poison.id])

        [entry] = await aside(broker.failed)
        assert entry.crashes == 3
        assert [claim.envelope.crashes for claim in await take(broker, suspects=True)] == [2]

    async def test_a_task_without_rescues_is_buried_in_company_too(self, broker):
        sent = [a_task(max_rescues=0), a_task(max_rescues=1), a_task(max_rescues=0)]
        await broker.apush(sent)
        claims = await take(broker)

        reclaimed = await crash(broker, running=claims)

        assert reclaimed.returned == [sent[1].id]
        assert sorted(reclaimed.buried) == sorted([sent[0].id, sent[2].id])
        assert {entry.crashes for entry in await aside(broker.failed)} == {1}

    async def test_when_nobody_knows_what_ran_all_that_was_held_counts(self, broker):
        sent = tasks(2, max_rescues=1)
        await suspect(broker, sent)
        await take(broker, suspects=True)
        assert sorted((await crash(broker)).returned) == sorted(ids_of(sent))
        first = await take_one(broker, suspects=True)

        assert await crash(broker) == Reclaimed([], [first.envelope.id])

    async def test_company_that_is_not_held_any_more_is_company(self, broker):
        sent = a_task(max_rescues=1)
        await suspect(broker, [sent])
        await take_one(broker, suspects=True)

        death = Death("killed by SIGKILL", frozenset([sent.id, "settled meanwhile"]))
        assert await aside(broker.reclaim, ALICE, death) == Reclaimed([sent.id], [])

        assert (await take_one(broker, suspects=True)).envelope.crashes == 1

    async def test_a_suspect_that_was_not_running_stays_one_unharmed(self, broker):
        sent = a_task(max_rescues=1)
        await suspect(broker, [sent])
        await take_one(broker, suspects=True)

        assert await crash(broker, running=[]) == Reclaimed([sent.id], [])

        assert await take(broker) == []
        assert counts(await take(broker, suspects=True)) == [(2, 1)]

    async def test_a_reclaim_of_all_kinds_of_tasks_repeated_changes_nothing(self, broker):
        sent = [a_task(max_rescues=0), *tasks(3)]
        await broker.apush(sent)
        claims = await take(broker)
        await crash(broker, running=claims[:2])

        assert await crash(broker, running=claims[:2]) == Reclaimed([], [])

        assert counts(await take(broker)) == [(1, 0)] * 2
        assert counts(await take(broker, suspects=True)) == [(2, 1)]
        assert await aside(broker.failed_count) == 1

    async def test_the_owners_of_a_vanished_node_died_each_for_itself(self, broker, backdoor):
        lonely, *together = sent = tasks(3, max_rescues=1)
        await suspect(broker, sent)
        await take_one(broker, suspects=True)
        await take(broker, owner=replaced(ALICE, slot="mail#2"), suspects=True)
        await aside(backdoor.expire_lease, ALICE.node)

        reclaimed = await aside(broker.reclaim_expired, BOB.node, "host lost")

        assert reclaimed.buried == [lonely.id]
        assert sorted(reclaimed.returned) == sorted(ids_of(together))
