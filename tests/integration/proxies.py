"""A line to a server that is made slow, cut, or goes dead."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any

HOST = "127.0.0.1"
LARGE, SMALL = 65536, 256
"""Bytes that are carried at once; small pieces where they take their time, so that connections share the line."""
ON_THE_WAY = 64
"""Pieces of a connection that are on their way; its sender waits with more."""
RESET = struct.pack("ii", 1, 0)
PATIENCE = 5.0


class Proxy:
    """A port that leads to the port or the socket ``target``; what is set holds from the next bytes or connection on.

    ``latency`` is in seconds, each way; ``rate`` the bytes per second, each way, of all connections together. While it
    is not ``open``, connections are reset as soon as they are made.
    """

    def __init__(self, target: int | str, host: str = HOST) -> None:
        self.target = target
        self.host = host
        self.latency = 0.0
        self.rate: float | None = None
        self.is_open = True
        self.there, self.back = _Way(self), _Way(self)
        self.dead: frozenset[_Way] = frozenset()
        self._calls: set[_Call] = set()
        self._released = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._accept, host, 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"valkey://{HOST}:{self.port}/0"

    @property
    def connections(self) -> int:
        """Return how many there are."""
        return len(self._calls)

    def go_dead(self, *, is_heard: bool = False) -> int:
        """Let nothing arrive any more, not even that a connection has ended; return how many there were.

        They never come back to life, and neither do those that are made before revive(). If ``is_heard``, what the
        server is told arrives, and its answers do not.
        """
        return self._do(self._go_dead({self.back} if is_heard else {self.there, self.back}))

    def hold(self) -> None:
        """Keep until release() what the server is sent on the connections that there are, also by clients that give up.

        So does a network that loses packets for a while: the sender's kernel sends them again.
        """
        self._do(self._hold())

    def release(self) -> None:
        """Let the server have what was kept."""
        self._loop.call_soon_threadsafe(self._released.set)

    def revive(self) -> None:
        """Let the connections live that are made from now on."""
        self.dead = frozenset()

    def cut(self) -> int:
        """Reset the connections that live; return how many there were."""
        return self._do(self._cut())

    def close(self) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _do[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    # On the loop ---------------------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = _Call(self, reader, writer)
        self._calls.add(call)
        try:
            if self.is_open:
                await call.run()
        finally:
            call.reset()
            self._calls.discard(call)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, str):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection(HOST, self.target)

    async def _go_dead(self, ways: "set[_Way]") -> int:
        self.dead = frozenset(ways)
        for call in self._calls:
            call.dead |= ways
        return len(self._calls)

    async def _hold(self) -> None:
        self._released.clear()
        for call in self._calls:
            call.held = self._released

    async def _cut(self) -> int:
        alive = [call for call in self._calls if not call.dead]
        for call in alive:
            call.reset()
        return len(alive)

    async def _end(self) -> None:
        self._server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:  # a connection may be just being accepted
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        await self._server.wait_closed()


class _Way:
    """One direction of a proxy's line, which its connections share."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._free_at = 0.0
        self.carried = self.queued = 0
        """Bytes while there was a rate, and those of them that did not find the line free."""

    async def occupy(self, size: int) -> None:
        """Return when so many bytes are through."""
        if self._proxy.rate is not None:
            now = asyncio.get_running_loop().time()
            self.carried += size
            self.queued += size if self._free_at > now else 0
            self._free_at = max(now, self._free_at) + size / self._proxy.rate
            await asyncio.sleep(self._free_at - now)


class _Call:
    """One connection through a proxy."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.dead = proxy.dead
        self.held: asyncio.Event | None = None
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._writers = [writer]

    async def run(self) -> None:
        """Carry bytes both ways until one end has closed."""
        with contextlib.suppress(OSError):
            reader, writer = await self._proxy.connect()
            self._writers.append(writer)
            there = asyncio.create_task(self._carry(self._reader, writer, self._proxy.there))
            back = asyncio.create_task(self._carry(reader, self._writer, self._proxy.back))
            try:
                await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                there.cancel()
                back.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
        await self._silence()

    def reset(self) -> None:
        for writer in self._writers:
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: _Way) -> None:
        """Carry bytes one way; return when the source has closed and all is there."""
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(ON_THE_WAY)
        taking = asyncio.create_task(self._take(source, on_the_way))
        try:
            await self._bring(on_the_way, sink, way)
        finally:
            taking.cancel()

    async def _take(self, source: asyncio.StreamReader, on_the_way: "asyncio.Queue[tuple[float, bytes]]") -> None:
        data = b"anything"
        while data:
            try:
                data = await source.read(SMALL if self._proxy.rate else LARGE)
            except OSError:
                data = b""
            await on_the_way.put((asyncio.get_running_loop().time() + self._proxy.latency, data))

    async def _bring(
        self, on_the_way: "asyncio.Queue[tuple[float, bytes]]", sink: asyncio.StreamWriter, way: _Way
    ) -> None:
        while True:
            due, data = await on_the_way.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            if self.held is not None and way is self._proxy.there:
                await self.held.wait()
            await way.occupy(len(data))
            if not data:
                await self._silence()
                return
            if way not in self.dead:
                sink.write(data)
                await sink.drain()

    async def _silence(self) -> None:
        """Return at once, or never on a dead connection."""
        if self.dead:
            await asyncio.Event().wait()
