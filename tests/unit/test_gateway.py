"""The database thread of a broker: every call has a deadline, and a late answer is undone."""

import asyncio
import gc
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from django.db import DatabaseError, connections

from django_vtasks.brokers.database.gateway import Gateway
from django_vtasks.db.models import CounterRow
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
    begun, undone = threading.Event(), threading.Event()

    def answer(_connection):
        begun.set()
        return gate.wait(PATIENCE)

    call = asyncio.create_task(gateway.call(answer, undo=lambda _: undone.set()))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    if cancelled:
        call.cancel()
    with pytest.raises(asyncio.CancelledError if cancelled else BrokerUnavailable):
        await call
    gate.set()

    assert await asyncio.to_thread(undone.wait, PATIENCE)


def test_a_call_that_nobody_waits_for_any_more_does_not_begin(make, gate):
    gateway = make(deadline=0.2)
    begun = []
    blocking = gateway.submit(lambda _: gate.wait(PATIENCE))
    with pytest.raises(BrokerUnavailable):
        gateway.run(lambda _: begun.append("too late"))
    gate.set()

    assert blocking.result(PATIENCE)
    gateway.run(lambda _: begun.append("in time"))
    assert begun == ["in time"]


async def test_a_call_whose_caller_was_cancelled_does_not_begin(make, gate):
    gateway = make()
    begun = []
    blocking = gateway.submit(lambda _: gate.wait(PATIENCE))
    call = asyncio.create_task(gateway.call(lambda _: begun.append("too late")))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0)
    gate.set()

    await gateway.call(lambda _: begun.append("in time"))
    assert blocking.result(0)
    assert begun == ["in time"]


async def test_an_error_that_comes_too_late_is_not_complained_of(make, gate):
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    gateway = make(deadline=0.1)
    late = threading.Event()

    def fail(_connection):
        gate.wait(PATIENCE)
        late.set()
        raise DatabaseError("gone")

    with pytest.raises(BrokerUnavailable):
        await gateway.call(fail)
    gate.set()
    await asyncio.to_thread(late.wait, PATIENCE)
    with pytest.raises(ZeroDivisionError):
        await gateway.call(lambda _: 1 / 0)
    await asyncio.sleep(0)
    gc.collect()

    assert complaints == []


async def test_an_answer_that_is_there_counts_although_the_loop_sees_it_after_the_deadline(make):
    gateway = make(deadline=0.05)
    done = threading.Event()

    def answer(_connection):
        done.set()
        return "answer"

    call = asyncio.create_task(gateway.call(answer))
    await asyncio.sleep(0)
    done.wait(PATIENCE)
    time.sleep(0.1)  # noqa: ASYNC251  # blocks the loop beyond the deadline

    assert await call == "answer"


def test_a_call_that_is_late_costs_the_thread_that_it_was_queued_for_and_no_other(make, gate):
    gateway = make(deadline=0.5)
    gateway.submit(lambda _: gate.wait(PATIENCE))
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(gateway.run, current_thread)
        wait([late], 0.1)
        gateway.abandon()
        successor = gateway.run(current_thread)
        with pytest.raises(BrokerUnavailable):
            late.result(PATIENCE)

    assert gateway.run(current_thread) == successor


@pytest.mark.parametrize("alias", ["postgres", "mariadb"])
def test_a_server_that_does_not_answer_holds_no_thread(database, monkeypatch, alias):
    database(alias)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setitem(connections.settings[alias], "HOST", "127.0.0.1")
        monkeypatch.setitem(connections.settings[alias], "PORT", silent.getsockname()[1])
        gateway = Gateway(alias, lambda _: None, deadline=3.0)
        others = set(threading.enumerate())
        with pytest.raises(DatabaseError):
            gateway.run(current_thread)
        [thread] = {thread for thread in threading.enumerate() if thread.name == f"vtasks-{alias}"} - others
        gateway.abandon()
        thread.join(PATIENCE)

    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("alias", "options"),
    [("postgres", {"connect_timeout"}), ("mariadb", {"connect_timeout", "read_timeout", "write_timeout"})],
)
def test_the_driver_gives_up_before_the_caller_does_unless_the_project_says_otherwise(
    database, monkeypatch, alias, options
):
    database(alias)
    with_options = connections.settings[alias].get("OPTIONS", {})
    monkeypatch.setitem(connections.settings[alias], "OPTIONS", with_options | {"connect_timeout": 33})
    gateway = Gateway(alias, lambda _: None, deadline=12.0)
    parameters = gateway.run(lambda connection: connection.get_connection_params())
    gateway.abandon()

    assert {option: parameters[option] for option in options} == dict.fromkeys(options, 9) | {"connect_timeout": 33}


@pytest.mark.parametrize("alias", ["default", "postgres", "mariadb"])
def test_what_is_written_holds_also_in_a_project_that_commits_by_itself(database, monkeypatch, alias):
    database(alias)
    monkeypatch.setitem(connections.settings[alias], "AUTOCOMMIT", value=False)
    gateway = Gateway(alias, lambda _: None)
    gateway.run(lambda _: CounterRow.objects.using(alias).create(name="written", value=1))
    gateway.abandon()

    assert CounterRow.objects.using(alias).filter(name="written").exists()


def test_the_last_of_several_hosts_is_reached_within_the_deadline(behind_silent_hosts):
    gateway = Gateway(behind_silent_hosts, lambda _: None, deadline=8.0)

    assert gateway.run(lambda connection: connection.is_usable())
    gateway.abandon()


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
