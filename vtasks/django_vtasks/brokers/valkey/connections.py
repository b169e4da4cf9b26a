"""An event loop's connections, for calls that follow each other closely.

The driver's own client asks before each call, in two turns of the loop, whether the connection is still there, and
packs commands in Python: that takes longer than the call. Its connections do the rest here as there.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import valkey.asyncio
from libvalkey import pack_command
from valkey.exceptions import ValkeyError

from django_vtasks.brokers.valkey.scripts import Command


class Connections:
    """Up to ``most`` connections, made by a pool of the driver as they are needed."""

    def __init__(self, pool: valkey.asyncio.ConnectionPool, most: int) -> None:
        self._pool = pool
        self._free: list[valkey.asyncio.Connection] = []
        self._permits = asyncio.Semaphore(most)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[valkey.asyncio.Connection]:
        """Give a connection for some calls."""
        async with self._permits:
            connection = await self._take()
            try:
                yield connection
            finally:
                self._free.append(connection)

    async def call(self, *commands: Command) -> list[Any]:
        """Do what exchange() does on a free connection."""
        async with self._permits:
            connection = await self._take()
            try:
                return await exchange(connection, *commands)
            finally:
                self._free.append(connection)

    async def aclose(self) -> None:
        """Close the connections that no call is using."""
        connections, self._free = self._free, []
        for connection in connections:
            await connection.disconnect()

    async def _take(self) -> valkey.asyncio.Connection:
        connection = self._free.pop() if self._free else self._pool.make_connection()
        # A server that has ended since the last call has said so: a call that was sent now would be lost.
        if connection.is_connected and connection._reader.at_eof():  # noqa: SLF001 - the driver's own way reads
            await connection.disconnect(nowait=True)
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection


async def exchange(connection: valkey.asyncio.Connection, *commands: Command) -> list[Any]:
    """Send commands together; return the answers, or raise the first error among them.

    A connection whose call is cancelled, or gets no answer, is closed.
    """
    await connection.send_packed_command([pack_command(command) for command in commands])
    return _checked([await _answer(connection) for _ in commands])


async def _answer(connection: valkey.asyncio.Connection) -> Any:
    try:
        return await connection.read_response()
    except ValkeyError as error:
        if not connection.is_connected:
            raise
        return error  # of this command; the next ones have answers too


def _checked(answers: Sequence[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, ValkeyError):
            raise answer
    return list(answers)
