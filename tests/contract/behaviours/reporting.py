"""What workers say of themselves, and what is in flight."""

import time
from dataclasses import replace as replaced

from django_vtasks.brokers.base import Ack, Owner
from tests.contract.given import A_LEASE, ALICE, BOB, a_task, tasks
from tests.contract.steps import crash, suspect, take, take_one
from tests.contract.threads import aside


class Reporting:
    async def test_what_a_node_last_said_of_itself_is_known_to_all(self, broker, second_broker):
        assert await aside(broker.reports) == {}

        for report in ("first", '{"name": "Grüße", "actors": []}'):
            await aside(broker.publish, ALICE.node, report)

        assert await aside(second_broker.reports) == {ALICE.node: '{"name": "Grüße", "actors": []}'}

    async def test_a_report_outlives_the_renewals_of_the_lease(self, broker):
        await aside(broker.publish, ALICE.node, "well")

        await aside(broker.renew, ALICE.node, A_LEASE)

        assert await aside(broker.reports) == {ALICE.node: "well"}

    async def test_a_report_is_forgotten_when_its_node_leaves(self, broker):
        for owner in (ALICE, BOB):
            await aside(broker.publish, owner.node, "well")

        await aside(broker.leave, ALICE.node)
        assert await aside(broker.reports) == {BOB.node: "well"}

        await aside(broker.renew, ALICE.node, A_LEASE)
        assert await aside(broker.reports) == {BOB.node: "well"}

    async def test_a_report_is_forgotten_when_the_lease_is_taken_back(self, broker, backdoor):
        await aside(broker.publish, ALICE.node, "well")
        await aside(backdoor.expire_lease, ALICE.node)

        await aside(broker.reclaim_expired, BOB.node, "host lost")
        assert await aside(broker.reports) == {}

        await aside(broker.renew, ALICE.node, A_LEASE)
        assert await aside(broker.reports) == {}

    async def test_without_a_lease_nothing_is_noted(self, broker):
        await aside(broker.publish, "nowhere", "well")
        assert await aside(broker.reports) == {}

        await aside(broker.renew, "nowhere", A_LEASE)
        assert await aside(broker.reports) == {}

    async def test_what_is_in_flight_is_listed_with_who_has_it(self, broker, second_broker):
        first, second = a_task(7), a_task(8, queue="odd:name 50%")
        batcher = Owner(BOB.node, "odd:name 50% (batch)", 3)
        await broker.apush([first, second, *tasks(2)])
        await take_one(broker)
        await take(broker, owner=batcher, queue="odd:name 50%")

        running = {task.envelope.id: task for task in await aside(second_broker.running)}

        assert {task_id: task.owner for task_id, task in running.items()} == {first.id: ALICE, second.id: batcher}
        envelope = running[second.id].envelope
        assert (envelope.task, envelope.queue, envelope.args, envelope.attempt) == (second.task, second.queue, [8], 1)
        for task in running.values():
            assert task.since is None or abs(task.since - time.time()) < 60

    async def test_nothing_is_in_flight_when_all_is_settled_or_given_back(self, broker):
        await broker.apush(tasks(2))
        first, _ = await take(broker)
        await broker.settle(ALICE, [Ack(first)])

        assert len(await aside(broker.running)) == 1

        await crash(broker)
        assert await aside(broker.running) == []

    async def test_a_suspect_in_flight_tells_its_attempts_and_crashes(self, broker):
        await suspect(broker, [a_task()], crashes=2)
        await take_one(broker, suspects=True)

        [task] = await aside(broker.running)

        assert (task.envelope.attempt, task.envelope.crashes) == (3, 2)

    async def test_no_more_than_asked_for_is_listed(self, broker):
        await broker.apush(tasks(9))
        await take(broker, 5)
        await take(broker, 4, owner=replaced(BOB, slot="mail#2"))

        assert [len(await aside(broker.running, limit)) for limit in (0, 3, 7, 100)] == [0, 3, 7, 9]

    async def test_what_cannot_be_read_is_in_flight_too(self, broker, backdoor):
        unreadable = a_task()
        await broker.apush([unreadable])
        await aside(backdoor.corrupt, unreadable.id, b"\xff")
        claim = await take_one(broker)

        [task] = await aside(broker.running)

        assert (task.envelope.id, task.envelope.task, task.owner) == (claim.envelope.id, "", ALICE)
