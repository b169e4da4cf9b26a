"""What an operator sees and clears."""

import asyncio
from dataclasses import replace as replaced

import pytest

from django_vtasks.brokers.base import Ack, Bury, Depth
from tests.contract.given import ALICE, FAILURE, a_task, in_an_hour, key, mutex, tasks, throttle
from tests.contract.steps import drain, ids_of, take, take_one
from tests.contract.threads import aside, at_once


class Operating:
    async def test_depth_tells_waiting_from_delayed_from_running(self, broker):
        await broker.apush([*tasks(3), *tasks(2, run_after=in_an_hour()), *tasks(4, queue="images")])
        await take_one(broker)

        assert await aside(broker.depth, "mail") == Depth(waiting=2, delayed=2, running=1)
        assert await aside(broker.depth, "images") == Depth(waiting=4, delayed=0, running=0)
        assert await aside(broker.depth, "nothing") == Depth(0, 0, 0)

    async def test_a_glance_at_several_queues_tells_what_depth_tells_of_each(self, broker):
        await broker.apush([*tasks(3), *tasks(2, run_after=in_an_hour()), *tasks(4, queue="images")])
        await take_one(broker)

        assert await aside(broker.glance, ["mail", "images", "nothing"]) == {
            "mail": Depth(waiting=2, delayed=2, running=1),
            "images": Depth(waiting=4, delayed=0, running=0),
            "nothing": Depth(0, 0, 0),
        }

    async def test_queues_names_all_that_hold_a_task_and_no_other(self, broker):
        await broker.apush(
            [a_task(queue="waiting"), a_task(queue="delayed", run_after=in_an_hour()), a_task(), a_task(queue="done")]
        )
        await take(broker, queue="mail")
        await broker.settle(ALICE, [Ack(claim) for claim in await take(broker, queue="done")])
        await take(broker, queue="empty")

        assert await aside(broker.queues) == ["delayed", "mail", "waiting"]

    async def test_clear_deletes_what_waits_and_keeps_what_runs(self, broker):
        await broker.apush(tasks(1))
        running = await take_one(broker)
        await broker.apush([*tasks(2), a_task(run_after=in_an_hour()), a_task(queue="images")])

        assert await aside(broker.clear, "mail") == 3

        assert await aside(broker.depth, "mail") == Depth(waiting=0, delayed=0, running=1)
        assert await aside(broker.depth, "images") == Depth(waiting=1, delayed=0, running=0)
        assert await broker.settle(ALICE, [Ack(running)]) == [True]

    async def test_clear_keeps_the_failed(self, broker):
        await broker.apush(tasks(2))
        await broker.settle(ALICE, [Bury(await take_one(broker), FAILURE)])

        assert await aside(broker.clear, "mail") == 1

        assert await aside(broker.failed_count) == 1

    async def test_clear_deletes_thousands(self, broker):
        await broker.apush([a_task(unique=mutex(str(number))) for number in range(2500)])

        assert await aside(broker.clear, "mail") == 2500
        assert await aside(broker.clear, "mail") == 0

        assert await aside(broker.queues) == []

    @pytest.mark.parametrize("lock", [mutex(), mutex(ttl=60.0), throttle()], ids=["mutex", "brief mutex", "throttle"])
    async def test_clear_frees_the_locks_of_small_and_of_large_tasks(self, broker, backdoor, lock):
        for task in (
            a_task(unique=lock),
            a_task("x" * 100_000, unique=lock),
            a_task(unique=lock, run_after=in_an_hour()),
        ):
            assert await broker.apush([task]) == [True]
            assert await aside(broker.clear, "mail") == 1
            assert await aside(backdoor.locks) == {}

    async def test_clear_keeps_the_locks_of_what_runs_and_of_other_queues(self, broker, backdoor):
        await broker.apush([running := a_task(unique=mutex("running"))])
        await take_one(broker)
        await broker.apush([a_task(unique=mutex()), other := a_task(queue="images", unique=mutex("other"))])

        assert await aside(broker.clear, "mail") == 1

        assert await aside(backdoor.locks) == {key("running"): running.id, key("other"): other.id}

    async def test_clear_frees_no_lock_that_has_lapsed_and_is_anothers_by_now(self, broker, backdoor):
        await broker.apush([a_task(unique=mutex(ttl=60.0))])
        await aside(backdoor.lapse_lock, key("report"))
        await broker.apush([successor := a_task(queue="images", unique=mutex())])

        assert await aside(broker.clear, "mail") == 1

        assert await aside(backdoor.locks) == {key("report"): successor.id}

    async def test_what_is_cleared_while_others_claim_is_cleared_or_claimed_and_never_both(self, broker, backdoor):
        await broker.apush(sent := tasks(3000))

        def work(number):
            if number:
                return asyncio.run(drain(backdoor.open(), replaced(ALICE, slot=f"mail#{number}")))
            return backdoor.open().clear("mail")

        cleared, *claimed = await asyncio.to_thread(at_once, work, 3)

        done = [task_id for some in claimed for task_id in some]
        assert len(set(done)) == len(done)
        assert set(done) <= set(ids_of(sent))
        assert cleared + len(done) == len(sent)
        assert await aside(broker.queues) == []

    async def test_several_clear_at_once_and_each_task_is_counted_once(self, broker, backdoor):
        await broker.apush(tasks(3000))

        assert sum(await asyncio.to_thread(at_once, lambda _: backdoor.open().clear("mail"), 3)) == 3000

        assert await aside(broker.queues) == []

    async def test_a_closed_broker_opens_again_when_called(self, broker):
        await broker.apush(tasks(2))
        await take_one(broker)
        await broker.aclose()
        await broker.aclose()

        claim = await take_one(broker)

        assert await broker.settle(ALICE, [Ack(claim)]) == [True]

    async def test_nothing_is_lost_when_a_broker_closes(self, broker, second_broker):
        await broker.apush(tasks(2))
        claim = await take_one(broker)

        await broker.aclose()

        assert await second_broker.settle(ALICE, [Ack(claim)]) == [True]
        assert await aside(second_broker.depth, "mail") == Depth(waiting=1, delayed=0, running=0)
