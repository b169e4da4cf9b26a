"""What the failed list keeps, and what it drops."""

import pytest

from django_vtasks.brokers.base import Bury, Depth, Retry, TaskFailure
from tests.contract.given import ALICE, FAILURE, a_task, in_an_hour, tasks
from tests.contract.steps import crash, ids_of, take, take_one
from tests.contract.threads import aside


class Failing:
    async def test_failed_tasks_are_listed_newest_first(self, broker):
        sent = tasks(3)
        await broker.apush(sent)
        for claim in await take(broker):
            await broker.settle(ALICE, [Bury(claim, FAILURE)])

        newest_first = ids_of(sent)[::-1]
        assert [entry.id for entry in await aside(broker.failed)] == newest_first
        assert [entry.id for entry in await aside(broker.failed, 2)] == newest_first[:2]
        assert await aside(broker.failed_count) == 3

    async def test_the_ids_of_failed_tasks_are_listed_in_the_order_in_which_they_failed(self, broker):
        await broker.apush(sent := tasks(250))
        claims = await take(broker)
        await broker.settle(ALICE, [Bury(claim, FAILURE) for claim in claims[:200]])
        for claim in claims[200:]:
            await broker.settle(ALICE, [Bury(claim, FAILURE)])

        listed = await aside(broker.failed_ids)
        assert listed[200:] == ids_of(sent[200:])
        assert sorted(listed[:200]) == sorted(ids_of(sent[:200]))  # which failed together

    @pytest.mark.parametrize("failed_cap", [3])
    async def test_a_full_failed_list_drops_the_oldest_and_counts_them(self, broker, second_broker):
        sent = tasks(5)
        await broker.apush(sent)

        await broker.settle(ALICE, [Bury(claim, FAILURE) for claim in await take(broker, 4)])
        assert await aside(second_broker.evictions) == 1
        await second_broker.settle(ALICE, [Bury(await take_one(broker), FAILURE)])

        assert [entry.id for entry in await aside(broker.failed)] == ids_of(sent[:1:-1])
        assert await aside(broker.failed_count) == 3
        assert await aside(broker.evictions) == 2

    @pytest.mark.parametrize("failed_cap", [1])
    async def test_poison_counts_for_the_cap_too(self, broker):
        await broker.apush(tasks(3, max_rescues=0))
        await take(broker)

        await crash(broker)

        assert await aside(broker.failed_count) == 1
        assert await aside(broker.evictions) == 2

    async def test_nothing_is_evicted_from_a_list_with_room(self, broker):
        await broker.apush(tasks(3))
        await broker.settle(ALICE, [Bury(claim, FAILURE) for claim in await take(broker)])

        assert await aside(broker.evictions) == 0

    @pytest.mark.parametrize("failed_cap", [1])
    async def test_clearing_the_failed_list_is_no_eviction(self, broker):
        await broker.apush(tasks(2))
        await broker.settle(ALICE, [Bury(claim, FAILURE) for claim in await take(broker)])

        assert await aside(broker.clear_failed) == 1
        assert await aside(broker.clear_failed) == 0

        assert await aside(broker.failed) == []
        assert await aside(broker.failed_count) == 0
        assert await aside(broker.evictions) == 1

    async def test_clearing_the_failed_list_leaves_tasks_alone(self, broker):
        await broker.apush([a_task(), a_task(run_after=in_an_hour())])

        assert await aside(broker.clear_failed) == 0

        assert await aside(broker.depth, "mail") == Depth(waiting=1, delayed=1, running=0)

    async def test_a_failed_task_counts_its_attempts_and_crashes(self, broker):
        await broker.apush(tasks(1))
        await take_one(broker)
        await crash(broker)
        await broker.settle(ALICE, [Retry(await take_one(broker, suspects=True), 0.0)])

        await broker.settle(ALICE, [Bury(await take_one(broker), FAILURE)])

        [entry] = await aside(broker.failed)
        assert (entry.attempts, entry.crashes) == (3, 1)

    async def test_a_failure_may_say_anything_at_any_length(self, broker):
        said = "漢字 🦊 %s {0} ' \" \\ \n" * 20_000
        await broker.apush(tasks(1))

        await broker.settle(ALICE, [Bury(await take_one(broker), TaskFailure("a.B", said, said))])

        [entry] = await aside(broker.failed)
        assert entry.failure == TaskFailure("a.B", said, said)

    async def test_a_failure_that_is_not_storable_text_is_kept_as_well_as_it_can_be(self, broker):
        said = "before \x00 NUL, before \udcff surrogate, after"
        await broker.apush(tasks(1))

        assert await broker.settle(ALICE, [Bury(await take_one(broker), TaskFailure("a.B", said, said))]) == [True]

        [entry] = await aside(broker.failed)
        assert entry.failure.message.startswith("before")
        assert entry.failure.message.endswith("after")
