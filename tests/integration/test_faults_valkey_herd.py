"""Ten thousand delayed tasks that are due at once: nobody takes more of them than it can run, and each runs once."""

from datetime import timedelta

import pytest
import valkey
from django.utils import timezone

from django_vtasks.brokers.base import Ack
from django_vtasks.brokers.valkey import ValkeyBroker
from django_vtasks.brokers.valkey.keys import Keys
from tests.contract.given import A_LEASE, ALICE, tasks
from tests.contract.steps import ids, ids_of, take
from tests.contract.threads import aside
from tests.integration.probes import eventually
from tests.workapp import tasks as work

COUNT = 10_000
AHEAD = 20
"""Booked tasks for each that can run, at most; most of them have ended and are about to be settled."""
AT_ONCE = 1000
"""Due tasks that one claim moves at most."""


@pytest.mark.parametrize("alias", ["valkey"], indirect=True, ids=["valkey"])
def test_each_runs_once_and_no_actor_books_more_than_it_can_run_soon(stage):
    actors, concurrency = 2, 10
    due = timezone.now() + timedelta(seconds=8)
    stage.enqueue_many([(work.anote.using(run_after=due), (f"n{number}",), {}) for number in range(COUNT)])
    stage.worker("--processes", str(actors), "--concurrency", str(concurrency))
    depth = stage.broker.depth("default")
    assert (depth.delayed, depth.waiting, depth.running) == (COUNT, 0, 0), "VACUOUS: they are not due at once"
    booked = [0]

    def is_done():
        booked.append(stage.running())
        return stage.size() == 0

    eventually(is_done, "all tasks are settled", 60)
    assert 0 < max(booked) <= actors * concurrency * AHEAD
    assert stage.ledger.counts() == {f"n{number}": 1 for number in range(COUNT)}
    assert stage.failed() == {}


async def test_a_claim_holds_the_server_up_for_a_part_of_them_only(valkey_url):
    broker = ValkeyBroker(valkey_url, prefix="{vt}")
    await aside(broker.renew, ALICE.node, A_LEASE)
    sent = tasks(COUNT, run_after=timezone.now().timestamp() + 3)
    await broker.apush(sent)
    assert await take(broker) == [], "VACUOUS: they are due already"

    done = ids(await broker.claim(ALICE, "mail", 10, wait=5.0))
    assert 1 <= len(done) <= 10
    with valkey.Valkey.from_url(valkey_url) as client:
        assert client.zcard(Keys("{vt}").delayed("mail")) == COUNT - AT_ONCE
    while claims := await take(broker, 500):
        await broker.settle(ALICE, [Ack(claim) for claim in claims])
        done += ids(claims)
    assert sorted(done) == sorted(ids_of(sent))
    await broker.aclose()
