"""What an operator sees and clears."""

from django_vtasks.brokers.base import Ack, Bury, Depth
from tests.contract.given import ALICE, FAILURE, a_task, in_an_hour, mutex, tasks
from tests.contract.steps import take, take_one
from tests.contract.threads import aside


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
