"""The bounded inbox of an actor."""

import asyncio


class Mailbox[M]:
    """Messages in the order of their arrival, at most ``capacity`` of them."""

    def __init__(self, capacity: int = 1000) -> None:
        self._messages: asyncio.Queue[M] = asyncio.Queue(capacity)

    def offer(self, message: M) -> bool:
        """Put a message in; False when there is no room."""
        try:
            self._messages.put_nowait(message)
        except asyncio.QueueFull:
            return False
        return True

    async def take(self) -> M:
        """Return the oldest message; wait for one."""
        return await self._messages.get()

    def __len__(self) -> int:
        """Return how many messages wait."""
        return self._messages.qsize()
