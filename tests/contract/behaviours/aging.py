"""For how long the oldest task of a queue has been due."""

import time

import msgspec
import pytest

from django_vtasks.brokers.base import Ack, Release
from tests.contract.given import ALICE, a_task, in_an_hour, tasks
from tests.contract.steps import suspect, take, take_one
from tests.contract.threads import aside

A_WHILE, A_MOMENT = 60.0, 0.01
"""Seconds that a test may take, though it does not, and by which the clock of a store may be behind (SQLite: 1 ms)."""


def ago(seconds, **fields):
    """Return a task that was enqueued so many seconds ago."""
    return msgspec.structs.replace(a_task(**fields), enqueued_at=time.time() - seconds)


def about(seconds):
    return pytest.approx(seconds + A_WHILE / 2, abs=A_WHILE / 2 + A_MOMENT)


class Aging:
    async def test_a_queue_is_as_old_as_the_task_that_has_waited_longest(self, broker):
        await broker.apush([ago(900), ago(500), ago(100), ago(300, queue="images")])

        assert await aside(broker.oldest, ["mail", "images"]) == {"mail": about(900), "images": about(300)}

    async def test_a_queue_where_nothing_waits_has_no_age(self, broker):
        await broker.apush([ago(900), ago(900, queue="delayed", run_after=in_an_hour())])
        await take(broker)

        assert await aside(broker.oldest, ["mail", "delayed", "nothing"]) == {}
        assert await aside(broker.oldest, []) == {}

    async def test_what_runs_does_not_wait_until_it_is_given_back(self, broker):
        await broker.apush([ago(900), ago(500)])
        claim = await take_one(broker)
        assert await aside(broker.oldest, ["mail"]) == {"mail": about(500)}

        await broker.settle(ALICE, [Release(claim)])
        assert await aside(broker.oldest, ["mail"]) == {"mail": about(900)}

        await broker.settle(ALICE, [Ack(await take_one(broker))])
        assert await aside(broker.oldest, ["mail"]) == {"mail": about(500)}

    async def test_a_delayed_task_has_waited_since_it_was_due(self, broker):
        await broker.apush([ago(900, run_after=time.time() - 300)])
        assert await aside(broker.oldest, ["mail"]) == {"mail": about(300)}

        await broker.apush([ago(500)])
        assert await aside(broker.oldest, ["mail"]) == {"mail": about(500)}

    async def test_a_delayed_task_that_a_claim_has_seen_has_waited_since_it_was_due(self, broker):
        first = [ago(900, run_after=time.time() - 300), ago(700, run_after=time.time() - 600)]
        await broker.apush([*first, ago(500)])
        await broker.settle(ALICE, [Release(claim) for claim in await take(broker)])

        assert await aside(broker.oldest, ["mail"]) == {"mail": about(600)}

    async def test_a_task_whose_time_had_come_before_has_waited_since_its_enqueue(self, broker):
        await broker.apush([ago(300, run_after=time.time() - 900)])

        assert await aside(broker.oldest, ["mail"]) == {"mail": about(300)}

    async def test_an_urgent_task_does_not_hide_an_older_one_behind_it(self, broker):
        await broker.apush([ago(900), ago(500), ago(100, priority=10), ago(200, priority=20)])

        assert await aside(broker.oldest, ["mail"]) == {"mail": about(900)}

    async def test_many_urgent_tasks_are_as_old_as_the_one_that_has_waited_longest(self, broker):
        await broker.apush([ago(900 - number, priority=10) for number in range(200)])

        assert await aside(broker.oldest, ["mail"]) == {"mail": about(900)}

    async def test_suspects_wait(self, broker):
        await suspect(broker, [ago(900), ago(500)])
        await broker.apush([ago(300)])

        assert await aside(broker.oldest, ["mail"]) == {"mail": about(900)}

    async def test_a_task_from_a_producer_whose_clock_is_fast_has_just_come(self, broker):
        await broker.apush([ago(-900)])

        assert await aside(broker.oldest, ["mail"]) == {"mail": 0.0}

    async def test_what_cannot_be_read_is_no_older_than_the_rest(self, broker, backdoor):
        unreadable = a_task()
        await broker.apush([unreadable, *tasks(1, queue="images")])
        await aside(backdoor.corrupt, unreadable.id, b"\xff")

        ages = await aside(broker.oldest, ["mail", "images"])

        assert ages == {"mail": about(0), "images": about(0)}
