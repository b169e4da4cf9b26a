"""How a payload that cannot be read passes through."""

import pytest

from django_vtasks.brokers.base import Bury, Reclaimed, Release, TaskFailure
from django_vtasks.envelope import Envelope
from tests.contract.given import ALICE, a_task, mutex, tasks
from tests.contract.steps import crash, ids, ids_of, take, take_one
from tests.contract.threads import aside
from tests.contract.unreadable import UNREADABLE

every_unreadable_payload = pytest.mark.parametrize("payload", UNREADABLE.values(), ids=UNREADABLE)


class Corruption:
    @every_unreadable_payload
    async def test_an_unreadable_task_is_claimed_with_its_problem_and_can_be_buried(self, broker, backdoor, payload):
        sent = a_task()
        await broker.apush([sent])
        await aside(backdoor.corrupt, sent.id, payload)

        claim = await take_one(broker)

        assert claim.envelope == Envelope.unreadable(sent.id, "mail")
        assert claim.problem
        failure = TaskFailure("django_vtasks.errors.PayloadError", claim.problem)
        assert await broker.settle(ALICE, [Bury(claim, failure)]) == [True]
        [entry] = await aside(broker.failed)
        assert (entry.id, entry.queue, entry.task, entry.failure) == (sent.id, "mail", "", failure)

    async def test_a_truncated_payload_is_unreadable(self, broker, backdoor):
        plain, compressed = a_task("short"), a_task("long" * 1000)
        await broker.apush([plain, compressed])
        for task in (plain, compressed):
            payload = await aside(backdoor.payload_of, task.id)
            await aside(backdoor.corrupt, task.id, payload[:-3])

        claims = await take(broker)

        assert ids(claims) == [plain.id, compressed.id]
        assert all(claim.problem for claim in claims)

    async def test_an_unreadable_task_does_not_hold_up_its_neighbours(self, broker, backdoor):
        sent = tasks(3)
        await broker.apush(sent)
        await aside(backdoor.corrupt, sent[1].id, b"\xff" * 50)

        claims = await take(broker)

        assert ids(claims) == ids_of(sent)
        assert [claim.problem is None for claim in claims] == [True, False, True]

    async def test_an_unreadable_task_can_be_released(self, broker, backdoor):
        sent = a_task()
        await broker.apush([sent])
        await aside(backdoor.corrupt, sent.id, b"?")

        assert await broker.settle(ALICE, [Release(await take_one(broker))]) == [True]

        assert (await take_one(broker)).problem

    async def test_an_unreadable_task_whose_owner_dies_in_company_is_buried_and_its_neighbour_is_not(
        self, broker, backdoor
    ):
        unreadable, neighbour = tasks(2)
        await broker.apush([unreadable, neighbour])
        await aside(backdoor.corrupt, unreadable.id, b"?")
        await take(broker)

        assert await crash(broker) == Reclaimed([neighbour.id], [unreadable.id])

    async def test_an_unreadable_task_that_was_not_running_goes_back(self, broker, backdoor):
        sent = a_task()
        await broker.apush([sent])
        await aside(backdoor.corrupt, sent.id, b"?")
        await take_one(broker)

        assert await crash(broker, running=[]) == Reclaimed([sent.id], [])

        assert (await take_one(broker)).problem

    async def test_an_unreadable_task_whose_owner_dies_is_buried(self, broker, backdoor):
        sent = a_task(unique=mutex())
        await broker.apush([sent])
        await aside(backdoor.corrupt, sent.id, b"?")
        await take_one(broker)

        assert await crash(broker) == Reclaimed([], [sent.id])

        [entry] = await aside(broker.failed)
        assert (entry.id, entry.task) == (sent.id, "")
        assert await broker.apush([a_task(unique=mutex())]) == [True]
