"""The connections of one event loop to one server."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import valkey.asyncio
from valkey.exceptions import ConnectionError as ValkeyConnectionError
from valkey.exceptions import ValkeyError

from django_vtasks.brokers.valkey.connector import DEADLINE, Connector
from django_vtasks.brokers.valkey.pipe import Done, Pipe, Remainder
from django_vtasks.brokers.valkey.replicas import answer_of, with_wait
from django_vtasks.brokers.valkey.request import Request, checked, command
from django_vtasks.brokers.valkey.spin import Spin

MARGIN = 5.0
"""Seconds beyond what a blocking call has asked for after which its connection is given up."""


@dataclass(slots=True)
class Waiting:
    """A wait of up to ``timeout`` seconds for an element in the list ``bell``.

    ``pipe`` is where it takes place, among the connections ``clients``; ``refusal`` why the server did not wait.
    """

    bell: str
    timeout: float
    clients: "LoopClients | None" = None
    pipe: Pipe | None = None
    refusal: Exception | None = None

    async def interrupt(self) -> None:
        """Let the script behind it run now."""
        if self.clients is not None and self.pipe is not None:
            await self.clients.unblock(self.pipe)


class LoopClients:
    """The connections of one event loop and one term; a loop that ends closes its generators, and thereby them.

    One is shared by all calls whose answers are small; each of the others is for one call at a time, which may wait for
    long or bring much.
    """

    def __init__(self, connector: Connector, term: int) -> None:
        self.term = term
        self._pool = connector.pool("async")
        self._pool_of_waits = connector.pool("wait")
        self._pipe: Pipe | None = None
        self._opening = asyncio.Lock()
        self._spin = Spin(asyncio.get_running_loop())
        self._waits: set[Pipe] = set()
        self._taken: set[Pipe] = set()
        self._leaving: set[Pipe] = set()
        """Those that are retired, while an answer is still due there."""
        self._is_retired = False
        self._watch = self._close_with_loop()

    async def open(self) -> None:
        """Let the loop know of them."""
        await anext(self._watch)

    async def send(
        self,
        request: Request,
        replicas: int,
        timeout: float,
        patience: float | None,
        remainder: Remainder | None = None,
    ) -> Any:
        """Return the answer; have so many replicas obey it too; with ``patience``, beside the shared connection."""
        if replicas:
            return await self._send_to_replicas(request, replicas, timeout)
        if patience is not None:
            async with self._waiting_pipe(timeout) as pipe:
                return checked(await pipe.exchange(request, timeout, patience, remainder))
        async with asyncio.timeout(timeout):
            pipe = await self._opened()
        return checked(await pipe.exchange(request, timeout))

    def send_soon(self, request: Request, done: Done) -> bool:
        """Send a request if there is a connection, one at a time; tell whether there is one."""
        pipe = self._pipe
        if pipe is None or not pipe.is_fresh:
            return False

        def answered(answers: list[Any] | Exception) -> None:
            self._spin.end()
            done(answers)

        pipe.send(request, DEADLINE, answered)
        self._spin.begin()
        return True

    async def wait(self, waiting: Waiting, request: Request, patience: float, remainder: Remainder) -> Sequence[Any]:
        """Send a request behind a command that blocks; return both answers."""
        async with self._waiting_pipe(DEADLINE) as pipe:
            if pipe.client is None:
                pipe.client = checked(await pipe.exchange(command("CLIENT", "ID"), DEADLINE))
            waiting.clients, waiting.pipe = self, pipe
            both = command("BLPOP", waiting.bell, str(waiting.timeout)).then(request)
            return await pipe.exchange(both, waiting.timeout + MARGIN, patience, remainder)

    async def unblock(self, pipe: Pipe) -> None:
        """Let what blocks a connection end; where nobody can be asked for that any more, end the connection."""
        if pipe.is_connected and pipe.client is not None and not self._is_retired:
            with contextlib.suppress(ValkeyError, OSError):  # not permitted, say
                await self.send(command("CLIENT", "UNBLOCK", pipe.client), 0, DEADLINE, None)
                return
        pipe.abort()

    async def close(self) -> None:
        """Close the connections, also one that is just being made."""
        self._is_retired = True
        await self._watch.aclose()

    def retire(self) -> None:
        """Close each connection when nobody waits for an answer there any more."""
        self._is_retired = True
        for pipe in self._all():
            pipe.retire()

    async def _send_to_replicas(self, request: Request, replicas: int, timeout: float) -> Any:
        # Not on the shared connection: what comes behind it would wait for the replicas too.
        async with self._waiting_pipe(timeout) as pipe:
            return answer_of(await pipe.exchange(with_wait(request, replicas), timeout), replicas)

    async def _opened(self) -> Pipe:
        if self._pipe is None or not self._pipe.is_fresh:
            async with self._opening:
                if self._pipe is None or not self._pipe.is_fresh:
                    former, self._pipe = self._pipe, await self._open(self._pool)
                    if former is not None:
                        self._let_go(former)
        return self._pipe

    async def _open(self, pool: valkey.asyncio.ConnectionPool) -> Pipe:
        pipe = await Pipe.open(pool)
        if self._is_retired:  # meanwhile, and nobody would close this one
            pipe.abort()
            raise ValkeyConnectionError("the connections to this server are no longer used")
        return pipe

    @contextlib.asynccontextmanager
    async def _waiting_pipe(self, timeout: float) -> AsyncIterator[Pipe]:
        """Give a connection on which nobody else waits."""
        self._waits = {pipe for pipe in self._waits if pipe.is_open}
        free = self._waits.difference(self._taken)
        for stale in [pipe for pipe in free if not pipe.is_fresh]:
            free.discard(stale)
            self._let_go(stale)
        if free:
            pipe = free.pop()
        else:
            async with asyncio.timeout(timeout):
                pipe = await self._open(self._pool_of_waits)
            self._waits.add(pipe)
        self._taken.add(pipe)
        try:
            yield pipe
        finally:
            self._taken.discard(pipe)
            if not pipe.is_idle:
                # Somebody was cancelled: what the server still says there is nobody's business.
                self._let_go(pipe)

    def _let_go(self, pipe: Pipe) -> None:
        """Retire a connection; should the loop end before the last answer is there, it is closed all the same."""
        self._waits.discard(pipe)
        pipe.retire()
        self._leaving = {each for each in (*self._leaving, pipe) if each.is_connected}

    def _all(self) -> list[Pipe]:
        return [*self._waits, *self._leaving, *([] if self._pipe is None else [self._pipe])]

    async def _close_with_loop(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await asyncio.gather(*(pipe.aclose() for pipe in self._all()))
