"""A duplex pipe of frames; its end of file says that the peer died."""

import asyncio
import contextlib
import logging
import socket
import struct
from typing import Any, Protocol

from vtasks_supervisor import codec
from vtasks_supervisor.errors import ChannelClosed

logger = logging.getLogger(__name__)

_LENGTH = struct.Struct("!I")
MAX_FRAME = 64 * 1024 * 1024
MAX_UNSENT = 8 * 1024 * 1024
"""Bytes kept for a peer that does not read; what comes then is dropped."""
MAX_WAITING = 1000
"""Frames kept for a peer in the same process."""


class Channel(Protocol):
    """One end of the pipe."""

    def send(self, frame: Any) -> bool:
        """Send without blocking; False when the frame is lost: too large, or the peer is gone or too far behind."""
        ...

    async def receive(self) -> Any:
        """Return the next frame that can be read; raise ChannelClosed when the peer is gone."""
        ...

    async def flush(self, timeout: float) -> None:
        """Wait until the peer has been given all frames, at most ``timeout`` seconds."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class SocketChannel:
    """A channel between processes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> "SocketChannel":
        """Take over one end of a socket pair."""
        end.setblocking(False)  # noqa: FBT003 - its only argument
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, frame: Any) -> bool:
        """Write a frame to the socket's buffer."""
        transport = self._writer.transport
        if transport.is_closing() or transport.get_write_buffer_size() > MAX_UNSENT:
            return False
        data = codec.pack(frame)
        if len(data) > MAX_FRAME:
            return False
        self._writer.write(_LENGTH.pack(len(data)) + data)
        return True

    async def receive(self) -> Any:
        """Read the next frame; leave out one whose message this process cannot import."""
        while True:
            data = await self._read()
            try:
                return codec.unpack(data)
            except Exception:
                logger.exception("A frame cannot be read and is dropped")

    async def _read(self) -> bytes:
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if length > MAX_FRAME:
                raise ChannelClosed(f"The peer announced a frame of {length} bytes.")
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ChannelClosed("The peer is gone.") from error

    async def flush(self, timeout: float) -> None:
        """Wait until the kernel has everything."""
        if self._writer.transport.is_closing():
            return
        self._writer.transport.set_write_buffer_limits(high=0)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(timeout):
                await self._writer.drain()

    def close(self) -> None:
        """Close the socket."""
        self._writer.close()


class LocalChannel:
    """A channel within one process."""

    def __init__(self, inbound: asyncio.Queue[Any], outbound: asyncio.Queue[Any]) -> None:
        self._inbound = inbound
        self._outbound = outbound

    @classmethod
    def pair(cls) -> tuple["LocalChannel", "LocalChannel"]:
        """Return both ends of a new channel."""
        here: asyncio.Queue[Any] = asyncio.Queue()
        there: asyncio.Queue[Any] = asyncio.Queue()
        return cls(here, there), cls(there, here)

    def send(self, frame: Any) -> bool:
        """Put a frame into the peer's queue."""
        if self._outbound.qsize() >= MAX_WAITING:
            return False
        self._outbound.put_nowait(frame)
        return True

    async def receive(self) -> Any:
        """Take the next frame out of the own queue."""
        frame = await self._inbound.get()
        if frame is _HUNG_UP:
            self._inbound.put_nowait(_HUNG_UP)
            raise ChannelClosed("The peer is gone.")
        return frame

    async def flush(self, timeout: float) -> None:
        """Return: the peer has everything at once."""

    def close(self) -> None:
        """Tell the peer, after all that was sent."""
        self._outbound.put_nowait(_HUNG_UP)


_HUNG_UP = object()
