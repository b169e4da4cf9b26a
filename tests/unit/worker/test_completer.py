"""Outcomes reach the broker in order, in groups, and again until it takes them."""

import asyncio
import contextlib

import pytest

from django_vtasks.brokers.base import Ack, Bury, Depth, Release, Retry
from django_vtasks.worker import outage
from django_vtasks.worker.completer import LARGEST_GROUP, Completer
from django_vtasks.worker.outcome import CANCELLED, SUCCEEDED, Failed, Postponed
from tests.contract.given import AN_HOUR, FAILURE, a_task
from tests.unit.worker.doubles import OWNER, a_broker, soon, turns


@pytest.fixture
def broker():
    return a_broker()


@pytest.fixture
async def completer(broker, monkeypatch):
    monkeypatch.setattr(outage, "FIRST_DELAY", 0.001)
    completer = Completer(broker, OWNER)
    running = asyncio.create_task(completer.run())
    yield completer
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def claimed(broker, count):
    broker.push([a_task(number, queue="mail") for number in range(count)])
    return await broker.claim(OWNER, "mail", count)


async def test_each_outcome_is_settled_as_what_it_is(broker, completer):
    ack, bury, retry, release = await claimed(broker, 4)
    for claim, outcome in [
        (ack, SUCCEEDED),
        (bury, Failed(FAILURE)),
        (retry, Postponed(AN_HOUR)),
        (release, CANCELLED),
    ]:
        completer.add(claim, outcome)
    await asyncio.wait_for(completer.flush(), 5)

    [group] = broker.settled
    assert group == [Ack(ack), Bury(bury, FAILURE), Retry(retry, AN_HOUR), Release(release)]
    assert broker.depth("mail") == Depth(waiting=1, delayed=1, running=0)
    assert [failed.id for failed in broker.failed()] == [bury.envelope.id]


async def test_what_ends_at_the_same_time_is_one_group_in_the_order_of_its_end(broker, completer):
    claims = await claimed(broker, 30)
    for claim in reversed(claims):
        completer.add(claim, SUCCEEDED)
    await asyncio.wait_for(completer.flush(), 5)

    assert [[settlement.claim for settlement in group] for group in broker.settled] == [list(reversed(claims))]


async def test_a_group_has_a_largest_size_and_the_rest_follows(broker, completer):
    for claim in await claimed(broker, LARGEST_GROUP + 7):
        completer.add(claim, SUCCEEDED)
    await asyncio.wait_for(completer.flush(), 5)

    assert [len(group) for group in broker.settled] == [LARGEST_GROUP, 7]


async def test_as_many_as_belong_together_are_settled_in_one_call(broker):
    size = LARGEST_GROUP + 700
    completer = Completer(broker, OWNER, largest=size)
    for claim in await claimed(broker, size):
        completer.add(claim, SUCCEEDED)
    running = asyncio.create_task(completer.run())
    await asyncio.wait_for(completer.flush(), 5)
    running.cancel()

    assert [len(group) for group in broker.settled] == [size]


async def test_the_backlog_is_what_has_ended_and_is_not_settled(broker, completer):
    claims = await claimed(broker, 2)
    broker.trouble["settle"] = OSError("closed")
    for claim in claims:
        completer.add(claim, SUCCEEDED)
    await soon(lambda: broker.settled)
    assert completer.backlog == claims
    del broker.trouble["settle"]
    await asyncio.wait_for(completer.flush(), 5)

    assert completer.backlog == []


async def test_in_trouble_the_same_outcomes_are_tried_until_they_are_taken(broker, completer, caplog):
    claims = await claimed(broker, 3)
    broker.trouble["settle"] = OSError("closed")
    completer.add(claims[0], SUCCEEDED)
    await soon(lambda: len(broker.settled) >= 4)
    completer.add(claims[1], SUCCEEDED)
    completer.add(claims[2], Failed(FAILURE))
    assert broker.depth("mail").running == 3
    del broker.trouble["settle"]
    await asyncio.wait_for(completer.flush(), 5)

    assert broker.depth("mail") == Depth(0, 0, 0)
    assert [record.exc_info is not None for record in caplog.records[:2]] == [True, False]


async def test_an_answer_that_was_lost_is_asked_for_again_and_reported_as_late_at_worst(broker, completer, caplog):
    [claim] = await claimed(broker, 1)
    broker.lost["settle"] = OSError("closed after the commit")
    completer.add(claim, SUCCEEDED)
    await asyncio.wait_for(completer.flush(), 5)

    assert len(broker.settled) == 2
    assert broker.depth("mail") == Depth(0, 0, 0)
    assert "was no longer this worker's when it ended; its ack changes nothing" in caplog.text


async def test_a_late_outcome_is_reported_and_the_others_count(broker, completer, caplog):
    late, fine = await claimed(broker, 2)
    await broker.keep_only(OWNER, {fine.receipt})
    completer.add(late, Failed(FAILURE))
    completer.add(fine, SUCCEEDED)
    await asyncio.wait_for(completer.flush(), 5)

    assert broker.depth("mail") == Depth(waiting=1, delayed=0, running=0)
    assert broker.failed() == []
    [record] = caplog.records
    assert f"id={late.envelope.id}" in record.getMessage()
    assert "its bury changes nothing" in record.getMessage()


async def test_an_outcome_that_the_store_cannot_take_does_not_hold_up_the_others(broker, completer, monkeypatch):
    """Say, a failure whose text the database refuses: those that ended with it must not wait for ever."""
    poison, *others = await claimed(broker, 4)
    settle = broker._do

    async def picky(name, call):
        if any(settlement.claim is poison for settlement in broker.settled[-1]):
            call.close()
            raise ValueError("this text cannot be stored")
        return await settle(name, call)

    monkeypatch.setattr(broker, "_do", picky)
    completer.add(poison, Failed(FAILURE))
    for claim in others:
        completer.add(claim, SUCCEEDED)

    await soon(lambda: broker.depth("mail").running <= 1, within=3)


async def test_an_outcome_that_the_store_refuses_for_ever_delays_no_later_one(broker, completer, monkeypatch):
    """What ends afterwards is settled at its first try, however long the pauses have become."""
    poison, *others = await claimed(broker, 20)
    settle, refusals = broker._do, []

    async def picky(name, call):
        if any(settlement.claim is poison for settlement in broker.settled[-1]):
            call.close()
            refusals.append(len(broker.settled[-1]))
            raise ValueError("this text cannot be stored")
        return await settle(name, call)

    monkeypatch.setattr(broker, "_do", picky)
    completer.add(poison, Failed(FAILURE))
    await soon(lambda: len(refusals) >= 3)
    monkeypatch.setattr(outage, "FIRST_DELAY", AN_HOUR)
    monkeypatch.setattr(outage, "LONGEST_DELAY", AN_HOUR)
    for claim in others:
        completer.add(claim, SUCCEEDED)
        await soon(lambda: completer.backlog == [poison])

    assert set(refusals) == {1}


async def test_after_an_outage_all_is_settled_that_the_store_refused_meanwhile(broker, completer):
    claims = await claimed(broker, 30)
    broker.trouble["settle"] = OSError("closed")
    for claim in claims:
        completer.add(claim, SUCCEEDED)
    await soon(lambda: len(broker.settled) >= 15)
    del broker.trouble["settle"]

    await asyncio.wait_for(completer.flush(), 10)
    assert broker.depth("mail") == Depth(0, 0, 0)


async def test_what_ends_while_a_group_is_being_settled_is_not_forgotten(broker, completer, monkeypatch):
    first, second = await claimed(broker, 2)
    gate, settle = asyncio.Event(), broker._do

    async def slow(name, call):
        await gate.wait()
        return await settle(name, call)

    monkeypatch.setattr(broker, "_do", slow)
    completer.add(first, SUCCEEDED)
    await soon(lambda: broker.settled)
    completer.add(second, SUCCEEDED)
    flushed = asyncio.create_task(completer.flush())
    await turns()
    assert not flushed.done()
    gate.set()
    await asyncio.wait_for(flushed, 5)

    assert broker.depth("mail") == Depth(0, 0, 0)


async def test_with_nothing_to_settle_there_is_nothing_to_wait_for(completer, broker):
    await asyncio.wait_for(completer.flush(), 1)

    assert broker.settled == []
