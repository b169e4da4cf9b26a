"""The database thread of a broker: every call has a deadline, and a late answer is undone."""

import asyncio
import threading

import pytest
from django.db import DatabaseError

from django_vtasks.brokers.database.gateway import Gateway
from django_vtasks.errors import BrokerUnavailable

PATIENCE = 10.0


@pytest.fixture
def make(database):
    made = []
    alias = database("default")

    def gateway(*, deadline=PATIENCE, prepare=lambda _: None):
        made.append(Gateway(alias, prepare, deadline=deadline))
        return made[-1]

    yield gateway
    for each in made:
        each.abandon()


@pytest.fixture
def gate():
    """Give an event for which calls wait, set at the end so that no thread stays."""
    event = threading.Event()
    yield event
    event.set()


def current_thread(_connection):
    return threading.get_ident()


def test_calls_run_on_one_thread_of_their_own(make):
    gateway = make()

    idents = {gateway.run(current_thread) for _ in range(3)}
    assert len(idents) == 1
    assert threading.get_ident() not in idents


def test_a_call_that_exceeds_the_deadline_costs_the_thread_and_no_more(make, gate):
    gateway = make(deadline=0.5)
    before = gateway.run(current_thread)

    with pytest.raises(BrokerUnavailable, match=r"did not answer within 0\.5 s"):
        gateway.run(lambda _: gate.wait(PATIENCE))
    assert gateway.run(current_thread) != before


async def test_the_loop_goes_on_while_a_call_blocks(make, gate):
    gateway = make()

    call = asyncio.create_task(gateway.call(lambda _: gate.wait(PATIENCE)))
    await asyncio.sleep(0)
    assert not call.done()
    gate.set()
    assert await call is True


@pytest.mark.parametrize("cancelled", [True, False], ids=["cancelled", "after the deadline"])
async def test_an_answer_that_nobody_waits_for_is_undone(make, gate, cancelled):
    gateway = make(deadline=PATIENCE if cancelled else 0.2)
    undone = threading.Event()

    call = asyncio.create_task(gateway.call(lambda _: gate.wait(PATIENCE), undo=lambda _: undone.set()))
    await asyncio.sleep(0)
    if cancelled:
        call.cancel()
    with pytest.raises(asyncio.CancelledError if cancelled else BrokerUnavailable):
        await call
    gate.set()

    assert await asyncio.to_thread(undone.wait, PATIENCE)


def test_an_error_of_the_database_costs_the_connection_and_no_more(make):
    prepared: list[object] = []
    gateway = make(prepare=prepared.append)

    def broken(_connection):
        raise DatabaseError("gone")

    gateway.run(current_thread)
    with pytest.raises(DatabaseError, match="gone"):
        gateway.run(broken)
    gateway.run(current_thread)
    assert len(prepared) == 2
