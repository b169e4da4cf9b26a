"""Calls of scripts and commands, from threads and from event loops; each has a deadline."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import valkey
import valkey.asyncio
from valkey.exceptions import NoScriptError, ReadOnlyError, ResponseError, ValkeyError

from django_vtasks.brokers.valkey.connector import CONNECT_TIMEOUT, DEADLINE, Connector
from django_vtasks.brokers.valkey.failures import code_of, translated
from django_vtasks.brokers.valkey.scripts import Argument, Command, script
from django_vtasks.errors import NotReplicated

MARGIN = 5.0
"""Seconds beyond what a blocking call has asked for after which its connection is given up."""
REPLICATE_WITHIN = 2.0
"""Seconds that replicas have."""
MILLISECONDS = 1000
REDIRECTIONS = 3
"""How often in a row a cluster may send us elsewhere."""


class Link:
    """All connections of a process to one server; a loop's are its own."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._lock = threading.Lock()
        self._client: valkey.Valkey | None = None
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopClients] = WeakKeyDictionary()
        self._is_lost = connector.is_cluster

    # Threads -------------------------------------------------------------------------------------------------

    def call(self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = (), *, replicas: int = 0) -> Any:
        """Run a script; raise NotReplicated unless so many replicas have what it wrote."""
        called = script(name)
        try:
            return self.command(*called.by_digest(keys, arguments), replicas=replicas)
        except NoScriptError:
            return self.command(*called.by_source(keys, arguments), replicas=replicas)

    def command(self, *command: Argument, replicas: int = 0) -> Any:
        """Run a command."""
        for attempts_left in reversed(range(REDIRECTIONS)):
            try:
                client = self._ready_client()
                if not replicas:
                    return client.execute_command(*command)
                return _checked(_with_wait(client.pipeline(transaction=False), command, replicas).execute(), replicas)
            except NoScriptError:
                raise
            except (ValkeyError, OSError) as error:
                if not (self._is_elsewhere(error) and attempts_left):
                    raise translated(error, self._connector.address) from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connections of threads."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()
            client.connection_pool.disconnect()

    def _ready_client(self) -> valkey.Valkey:
        with self._lock:
            if self._is_lost:
                self._client = None
                self._connector.find_primary()
                self._is_lost = False
            if self._client is None:
                self._client = self._connector.client()
            return self._client

    # Loops ---------------------------------------------------------------------------------------------------

    async def acall(
        self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = (), *, replicas: int = 0
    ) -> Any:
        """Do what call() does."""
        called = script(name)
        try:
            return await self.acommand(*called.by_digest(keys, arguments), replicas=replicas)
        except NoScriptError:
            return await self.acommand(*called.by_source(keys, arguments), replicas=replicas)

    async def acommand(self, *command: Argument, replicas: int = 0) -> Any:
        """Do what command() does."""
        for attempts_left in reversed(range(REDIRECTIONS)):
            try:
                async with asyncio.timeout(DEADLINE):
                    client = (await self._ready_clients()).calls
                    if not replicas:
                        return await client.execute_command(*command)
                    pipeline = _with_wait(client.pipeline(transaction=False), command, replicas)
                    return _checked(await pipeline.execute(), replicas)
            except NoScriptError:
                raise
            except (ValkeyError, OSError) as error:
                if not (self._is_elsewhere(error) and attempts_left):
                    raise translated(error, self._connector.address) from error
        raise AssertionError("unreachable")

    async def await_news(self, key: str, timeout: float) -> None:
        """Return when there is an element in a list, which is taken, or after ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout + MARGIN):
                await (await self._ready_clients()).waits.execute_command("BLPOP", key, timeout)
        except (ValkeyError, OSError) as error:
            self._is_elsewhere(error)
            raise translated(error, self._connector.address) from error

    async def aclose(self) -> None:
        """Close the connections of the running loop, and those of threads."""
        clients = self._loops.pop(asyncio.get_running_loop(), None)
        if clients is not None:
            await clients.watch.aclose()
        self.close()

    async def _ready_clients(self) -> "_LoopClients":
        loop = asyncio.get_running_loop()
        if self._is_lost:
            await asyncio.to_thread(self._ready_client)
            if (old := self._loops.pop(loop, None)) is not None:
                await old.watch.aclose()
        clients = self._loops.get(loop)
        if clients is None:
            clients = self._loops[loop] = _LoopClients(self._connector)
            await anext(clients.watch)
        return clients

    def _is_elsewhere(self, error: Exception) -> bool:
        """Note whether the server may not be ours any more; tell whether it has refused the call for that."""
        if not self._connector.is_cluster:
            return False
        self._is_lost = self._is_lost or not isinstance(error, ResponseError) or code_of(error) == "MOVED"
        if isinstance(error, ReadOnlyError) or code_of(error) == "CLUSTERDOWN":
            self._is_lost = True
        return isinstance(error, ReadOnlyError) or code_of(error) == "MOVED"


def _with_wait[T: Any](pipeline: T, command: Command, replicas: int) -> T:
    """Ask, behind a command and on its connection, until so many replicas have what it wrote."""
    pipeline.execute_command(*command)
    pipeline.execute_command("WAIT", replicas, round(REPLICATE_WITHIN * MILLISECONDS))
    return pipeline


def _checked(answers: Sequence[Any], wanted: int) -> Any:
    answer, replicas = answers
    if replicas < wanted:
        raise NotReplicated(
            f"What was enqueued is on the primary and on {replicas} replicas, not on {wanted} (MIN_REPLICAS), after "
            f"{REPLICATE_WITHIN:g} s; it runs unless the primary is lost."
        )
    return answer


class _LoopClients:
    """The clients of one event loop, which are closed with it: a loop that ends closes its generators."""

    def __init__(self, connector: Connector) -> None:
        self.calls = connector.async_client()
        self.waits = connector.waiting_client()
        self.watch = _closing(self.calls, self.waits)


async def _closing(*clients: valkey.asyncio.Valkey) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        for client in clients:
            with contextlib.suppress(ValkeyError, OSError):
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await client.aclose()
                    await client.connection_pool.disconnect()
