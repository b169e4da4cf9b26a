"""An enqueue to a Valkey that cannot take it: a clear error within seconds, which shows no password."""

import asyncio
import contextlib
import re
import socket
import sys
import threading
import time
import traceback

import pytest
import valkey
from asgiref.sync import sync_to_async
from django.tasks import task_backends
from django.test import override_settings

from django_vtasks.backends.valkey import ValkeyTaskBackend
from django_vtasks.brokers.valkey.entry import Entry
from django_vtasks.errors import BrokerUnavailable
from tests import databases, servers
from tests.app.tasks import add
from tests.integration.stores import VALKEY
from tests.integration.valkeys import own_valkey

WITHIN = 5.0
PASSWORD = "sesame-open"  # noqa: S105 - of throw-away servers


@pytest.fixture(scope="module")
def closed():
    """Give the host and port of a server that knows who may do what."""
    databases.require_server("valkey")
    with own_valkey() as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", f">{PASSWORD}", "~*", "+@all", "-@write")
        client.execute_command("ACL", "SETUSER", "halved", "on", f">{PASSWORD}", "~*", "+@all", "-lpush")
        client.execute_command("ACL", "SETUSER", "elsewhere", "on", f">{PASSWORD}", "~other:*", "+@all")
        for category in ("scripting", "transaction"):
            client.execute_command(
                "ACL", "SETUSER", f"no-{category}", "on", f">{PASSWORD}", "~*", "+@all", f"-@{category}"
            )
        client.execute_command("ACL", "SETUSER", "enough", "on", f">{PASSWORD}", "~{vt}:*", "+@all", "-@admin")
        server.configure(requirepass=PASSWORD)
        yield f"127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def replica():
    databases.require_server("valkey")
    with own_valkey() as server, server.client() as client:
        client.replicaof("127.0.0.1", servers.free_port())
        yield server.url


@pytest.fixture
def silent():
    """Give the address of somebody who takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield "{}:{}".format(*listener.getsockname())


@contextlib.contextmanager
def swallowing_at(host, port):
    """Give an address from which not even a connection is answered, as behind a firewall: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((host, port), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(listener.getsockname())
        yield "{}:{}".format(*listener.getsockname())


@pytest.fixture
def swallowing():
    with swallowing_at("127.0.0.1", 0) as address:
        yield address


@pytest.fixture
async def addresses(monkeypatch):
    """Give a function that says where names lead: to some addresses, or to none until the test is over."""
    is_over = threading.Event()
    known: dict[str, list[str]] = {}

    def look_up(host, port, *args, usual=socket.getaddrinfo, **kwargs):
        if host not in known:
            return usual(host, port, *args, **kwargs)
        if not known[host]:
            is_over.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [found for address in known[host] for found in usual(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield known.__setitem__
    is_over.set()


@pytest.fixture
def enqueue_to():
    """Give a function that enqueues to a URL and returns the error, which must come in time and keep the password."""

    async def attempt(url, way):
        with override_settings(TASKS={"default": {"BACKEND": VALKEY, "OPTIONS": {"BROKER_URL": url}}}):
            began = time.monotonic()
            with pytest.raises(BrokerUnavailable) as raised:
                await (add.aenqueue(1) if way == "aenqueue" else sync_to_async(add.enqueue)(1))
            assert time.monotonic() - began < WITHIN
            assert_secret(raised.value)
            close()
        return str(raised.value)

    return attempt


def assert_secret(error):
    told = "".join(traceback.format_exception(error))
    assert PASSWORD not in told
    assert "letmein" not in told


def close():
    backend = task_backends["default"]
    assert isinstance(backend, ValkeyTaskBackend)
    backend.broker.close()


both_ways = pytest.mark.parametrize("way", ["enqueue", "aenqueue"])

REFUSED = {
    "a wrong password": ("valkey://:letmein@{}/0", "refuses the user name or the password"),
    "no password": ("valkey://{}/0", "refuses the user name or the password"),
    "an unknown user": (f"valkey://nobody:{PASSWORD}@{{}}/0", "refuses the user name or the password"),
    "a user who only reads": (f"valkey://reader:{PASSWORD}@{{}}/0", "does not permit this user what is needed"),
    "a user without a command": (f"valkey://halved:{PASSWORD}@{{}}/0", "does not permit this user what is needed"),
    "a user of other keys": (f"valkey://elsewhere:{PASSWORD}@{{}}/0", "does not permit this user what is needed"),
    "a wrong database": (f"valkey://:{PASSWORD}@{{}}/99", "has no database of this number"),
}


@both_ways
@pytest.mark.parametrize(("url", "reason"), REFUSED.values(), ids=REFUSED)
async def test_what_the_server_refuses_is_told_in_words(way, url, reason, closed, enqueue_to):
    message = await enqueue_to(url.format(closed), way)

    assert re.fullmatch(rf"Valkey at {closed}(/\d+)? {reason}\.", message)


@both_ways
@pytest.mark.parametrize("user", ["no-scripting", "no-transaction"])
async def test_a_plain_task_needs_neither_scripts_nor_transactions(way, user, closed):
    """Who may not begin a transaction has all its commands obeyed: to raise would have the task enqueued twice."""
    url = f"valkey://{user}:{PASSWORD}@{closed}/0"
    with valkey.Valkey.from_url(f"valkey://:{PASSWORD}@{closed}/0") as client:
        client.flushall()
        with override_settings(TASKS={"default": {"BACKEND": VALKEY, "OPTIONS": {"BROKER_URL": url}}}):
            result = await (add.aenqueue(1) if way == "aenqueue" else sync_to_async(add.enqueue)(1))
            close()
        [stored] = client.lrange("{vt}:waiting:default", 0, -1)

    assert Entry.parse(stored).id == result.id


@both_ways
async def test_a_port_that_nobody_listens_on_cannot_be_reached(way, enqueue_to):
    address = f"127.0.0.1:{servers.free_port()}"

    message = await enqueue_to(f"valkey://:{PASSWORD}@{address}/0", way)
    assert message.startswith(f"Valkey at {address}/0 cannot be reached: ")


@both_ways
async def test_a_name_that_leads_nowhere_cannot_be_reached(way, enqueue_to):
    message = await enqueue_to(f"valkey://:{PASSWORD}@valkey.invalid:6379/0", way)

    assert message.startswith("Valkey at valkey.invalid:6379/0 cannot be reached: ")


@both_ways
async def test_a_socket_that_is_not_there_cannot_be_reached(way, enqueue_to, tmp_path):
    message = await enqueue_to(f"unix://{tmp_path}/socket?password={PASSWORD}", way)

    assert message.startswith(f"Valkey at {tmp_path}/socket cannot be reached: ")


@both_ways
async def test_a_server_that_takes_connections_and_says_nothing_did_not_answer(way, silent, enqueue_to):
    message = await enqueue_to(f"valkey://:{PASSWORD}@{silent}/0", way)

    assert message == f"Valkey at {silent}/0 did not answer in time."


@both_ways
async def test_an_address_that_swallows_everything_did_not_answer(way, swallowing, enqueue_to):
    message = await enqueue_to(f"valkey://:{PASSWORD}@{swallowing}/0", way)

    assert message == f"Valkey at {swallowing}/0 did not answer in time."


@both_ways
async def test_a_name_whose_look_up_takes_long_did_not_answer(way, enqueue_to, addresses):
    addresses("valkey.test", [])

    message = await enqueue_to(f"valkey://:{PASSWORD}@valkey.test:6379/0", way)

    assert message == "Valkey at valkey.test:6379/0 did not answer in time."


@both_ways
async def test_a_name_of_several_addresses_that_swallow_everything_did_not_answer(
    way, enqueue_to, swallowing, addresses
):
    host, port = swallowing.split(":")
    addresses("valkey.test", [host] * 3)

    message = await enqueue_to(f"valkey://:{PASSWORD}@valkey.test:{port}/0", way)

    assert message == f"Valkey at valkey.test:{port}/0 did not answer in time."


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the machine has one address of its own only")
async def test_when_the_first_address_swallows_everything_a_thread_uses_the_second(closed, addresses):
    port = int(closed.split(":")[1])
    addresses("valkey.test", ["127.0.0.2", "127.0.0.1"])
    url = f"valkey://enough:{PASSWORD}@valkey.test:{port}/0"

    with (
        swallowing_at("127.0.0.2", port),
        override_settings(TASKS={"default": {"BACKEND": VALKEY, "OPTIONS": {"BROKER_URL": url}}}),
    ):
        assert await sync_to_async(add.enqueue)(1) is not None
        close()


@both_ways
async def test_a_replica_takes_nothing(way, replica, enqueue_to):
    message = await enqueue_to(replica, way)

    assert message.endswith(" is a replica, which takes no tasks: BROKER_URL must name the primary.")


@both_ways
async def test_somebody_else_who_answers_is_told_apart(way, enqueue_to):
    async def answer(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = "{}:{}".format(*server.sockets[0].getsockname())
        message = await enqueue_to(f"valkey://:{PASSWORD}@{address}/0", way)

    assert message == f"Valkey at {address}/0 does not answer as Valkey does: the port may be another program's."


@both_ways
async def test_a_user_who_may_touch_no_keys_but_ours_may_enqueue(way, closed):
    url = f"valkey://enough:{PASSWORD}@{closed}/0"

    with override_settings(TASKS={"default": {"BACKEND": VALKEY, "OPTIONS": {"BROKER_URL": url}}}):
        result = await (add.aenqueue(1) if way == "aenqueue" else sync_to_async(add.enqueue)(1))
        close()
    assert result is not None
