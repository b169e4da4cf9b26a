"""Calls of scripts and commands, from threads and from event loops; each has a deadline."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Self
from weakref import WeakKeyDictionary

import valkey
from valkey.exceptions import NoScriptError, ReadOnlyError, ResponseError, ValkeyError

from django_vtasks.brokers.valkey.connections import Connections, exchange
from django_vtasks.brokers.valkey.connector import CONNECT_TIMEOUT, DEADLINE, Connector
from django_vtasks.brokers.valkey.failures import code_of, translated
from django_vtasks.brokers.valkey.scripts import Argument, Command, script
from django_vtasks.errors import BrokerUnavailable, NotReplicated

MARGIN = 5.0
"""Seconds beyond what a blocking call has asked for after which its connection is given up."""
REPLICATE_WITHIN = 2.0
"""Seconds that replicas have."""
MILLISECONDS = 1000
LOOP_CONNECTIONS = 4
"""Of one event loop, at most, beside those that wait for news."""
WAITING_CONNECTIONS = 10_000
"""For calls that block: each has one to itself."""
REDIRECTIONS = 3
"""How often in a row a cluster may send us elsewhere."""


class Link:
    """All connections of a process to one server; a loop's are its own.

    In a cluster the server may be replaced. A term begins when the one that is in office is found, and with it the use
    of new connections; those of former terms are closed when nobody waits for an answer on them any more.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._lock = threading.Lock()
        self._finding = threading.Lock()
        self._term = 0
        self._is_lost = connector.is_cluster
        self._client: tuple[int, valkey.Valkey] | None = None
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopClients] = WeakKeyDictionary()

    @property
    def address(self) -> str:
        """Return where the server is, without secrets."""
        return self._connector.address

    # Threads -------------------------------------------------------------------------------------------------

    def call(self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = (), *, replicas: int = 0) -> Any:
        """Run a script; raise NotReplicated unless so many replicas have what it wrote."""
        called = script(name)
        if replicas:
            # The wait behind a call that the server cannot obey would take its time all the same.
            return self.command(*called.by_source(keys, arguments), replicas=replicas)
        try:
            return self.command(*called.by_digest(keys, arguments))
        except NoScriptError:
            return self.command(*called.by_source(keys, arguments))

    def command(self, *command: Argument, replicas: int = 0) -> Any:
        """Run a command."""
        until = time.monotonic() + DEADLINE
        for attempts_left in reversed(range(REDIRECTIONS)):
            term = self._term
            try:
                term, client = self._ready_client()
                if not replicas:
                    return client.execute_command(*command)
                pipeline = client.pipeline(transaction=False)
                for one in _with_wait(command, replicas):
                    pipeline.execute_command(*one)
                # The error that it would raise by itself has the command in its text.
                return _checked(pipeline.execute(raise_on_error=False), replicas)
            except NoScriptError:
                raise
            except (ValkeyError, OSError) as error:
                if not (self._is_elsewhere(error, term) and attempts_left and time.monotonic() < until):
                    raise translated(error, self.address) from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connections of threads."""
        with self._lock:
            used, self._client = self._client, None
        if used is not None:
            _, client = used
            client.close()
            client.connection_pool.disconnect()

    def _ready_client(self) -> tuple[int, valkey.Valkey]:
        if self._is_lost:
            self._begin_term()
        with self._lock:
            # A former client is dropped and not closed: another thread may be about to read an answer there. With the
            # last that does, its connections close.
            if self._client is None or self._client[0] != self._term:
                self._client = self._term, self._connector.client()
            return self._client

    def _begin_term(self) -> None:
        """Find the server that is in office, unless another thread just has."""
        if not self._finding.acquire(timeout=DEADLINE):
            raise TimeoutError
        try:
            if self._is_lost:
                self._connector.find_primary()
                self._term += 1
                self._is_lost = False
        finally:
            self._finding.release()

    # Loops ---------------------------------------------------------------------------------------------------

    async def acall(
        self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = (), *, replicas: int = 0
    ) -> Any:
        """Do what call() does."""
        called = script(name)
        if replicas:
            return await self.acommand(*called.by_source(keys, arguments), replicas=replicas)
        try:
            return await self.acommand(*called.by_digest(keys, arguments))
        except NoScriptError:
            return await self.acommand(*called.by_source(keys, arguments))

    async def acommand(self, *command: Argument, replicas: int = 0) -> Any:
        """Do what command() does."""
        term = self._term
        try:
            async with asyncio.timeout(DEADLINE):
                for attempts_left in reversed(range(REDIRECTIONS)):
                    clients = await self._ready_clients()
                    term = clients.term
                    try:
                        return await clients.send(command, replicas)
                    except ResponseError as error:
                        if not (self._is_elsewhere(error, term) and attempts_left):
                            raise
        except NoScriptError:
            raise
        except (ValkeyError, OSError) as error:
            self._is_elsewhere(error, term)
            raise translated(error, self.address) from error
        raise AssertionError("unreachable")

    async def acall_on_news(
        self, waiting: "Waiting", name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> Any:
        """Run a script when there is an element in a list, which is taken, or the time is over.

        The script waits on the server, behind the command that blocks: it has run before this process learns of the
        news. Return None when the server may have moved, or does not know the script; the next call will tell.
        """
        term = self._term
        try:
            async with asyncio.timeout(waiting.timeout + MARGIN):
                clients = await self._ready_clients()
                term = clients.term
                return await clients.wait(waiting, script(name).by_digest(keys, arguments))
        except NoScriptError:
            return None
        except (ValkeyError, OSError) as error:
            # Where the news will be now, or why there is none, the next call learns.
            if not self._is_elsewhere(error, term) and code_of(error) != "UNBLOCKED":
                raise translated(error, self.address) from error
            return None

    async def interrupt(self, waiting: "Waiting") -> None:
        """Let a call of acall_on_news() go on now."""
        if waiting.client is not None:
            with contextlib.suppress(BrokerUnavailable, ResponseError):
                await self.acommand("CLIENT", "UNBLOCK", waiting.client)

    async def aclose(self) -> None:
        """Close the connections of the running loop, each when it has its answer, and those of threads."""
        clients = self._loops.pop(asyncio.get_running_loop(), None)
        if clients is not None:
            await clients.retire()
        self.close()

    async def _ready_clients(self) -> "_LoopClients":
        if self._is_lost:
            await asyncio.to_thread(self._begin_term)
        loop, term = asyncio.get_running_loop(), self._term
        clients = self._loops.get(loop)
        if clients is None or clients.term != term:
            former, clients = clients, _LoopClients(self._connector, term)
            self._loops[loop] = clients
            await clients.open()
            if former is not None:
                await former.retire()
        return clients

    # A cluster -----------------------------------------------------------------------------------------------

    def _is_elsewhere(self, error: Exception, term: int) -> bool:
        """Note whether the server of a term may be out of office; tell whether it has refused the call for that."""
        if not self._connector.is_cluster:
            return False
        is_refusal = isinstance(error, ReadOnlyError) or code_of(error) == "MOVED"
        is_doubtful = is_refusal or not isinstance(error, ResponseError) or code_of(error) == "CLUSTERDOWN"
        if is_doubtful and term == self._term:
            self._is_lost = True
        return is_refusal


@dataclass(slots=True)
class Waiting:
    """A wait of up to ``timeout`` seconds for an element in the list ``bell``; ``client`` is the server's id of it."""

    bell: str
    timeout: float
    client: int | None = None


class _LoopClients:
    """The clients of one event loop and one term; a loop that ends closes its generators, and thereby them."""

    def __init__(self, connector: Connector, term: int) -> None:
        self.term = term
        self._calls = Connections(connector.pool("async"), LOOP_CONNECTIONS)
        self._waits = Connections(connector.pool("wait"), WAITING_CONNECTIONS)
        self._watch = _closing(self._calls, self._waits)
        self._users = 0
        self._is_former = False

    async def open(self) -> None:
        """Let the loop know of them."""
        await anext(self._watch)

    async def send(self, command: Command, replicas: int) -> Any:
        """Run a command, and have so many replicas obey it too."""
        async with self:
            if not replicas:
                [answer] = await self._calls.call(command)
                return answer
            try:
                return _checked(await self._calls.call(*_with_wait(command, replicas)), replicas)
            except ResponseError as error:
                if code_of(error) != "UNBLOCKED":
                    raise
                # A script does not block: it is the wait behind it that was ended.
                raise _not_known(replicas, error) from error

    async def wait(self, waiting: "Waiting", command: Command) -> Any:
        """Run a command behind one that blocks; return its answer."""
        async with self, self._waits.connection() as connection:
            if waiting.client is None:
                [waiting.client] = await exchange(connection, ("CLIENT", "ID"))
            _, answer = await exchange(connection, ("BLPOP", waiting.bell, str(waiting.timeout)), command)
            return answer

    async def close(self) -> None:
        """Close the connections."""
        await self._watch.aclose()

    async def retire(self) -> None:
        """Close the connections when nobody waits for an answer any more."""
        self._is_former = True
        if not self._users:
            await self.close()

    async def __aenter__(self) -> Self:
        self._users += 1
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._users -= 1
        if self._is_former and not self._users:
            await self.close()


def _with_wait(command: Command, replicas: int) -> Sequence[Command]:
    """Ask, behind a command and on its connection, until so many replicas have what it wrote."""
    return command, ("WAIT", replicas, round(REPLICATE_WITHIN * MILLISECONDS))


def _checked(answers: Sequence[Any], wanted: int) -> Any:
    answer, replicas = answers
    if isinstance(answer, Exception):
        raise answer
    if isinstance(replicas, Exception):
        raise _not_known(wanted, replicas)
    if replicas < wanted:
        raise NotReplicated(
            f"What was enqueued is on the primary and on {replicas} replicas, not on {wanted} (MIN_REPLICAS), after "
            f"{REPLICATE_WITHIN:g} s; it runs unless the primary is lost."
        )
    return answer


def _not_known(wanted: int, error: Exception) -> NotReplicated:
    return NotReplicated(
        f"What was enqueued is on a primary that has just been replaced; nobody knows whether {wanted} replicas "
        f"(MIN_REPLICAS) have it too: {error}"
    )


async def _closing(*connections: Connections) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        for some in connections:
            with contextlib.suppress(ValkeyError, OSError):
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await some.aclose()
