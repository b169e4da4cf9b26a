"""What coroutines push at the same time goes out together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from django_vtasks.brokers.valkey.pushing import New, Push


class _Parcel(NamedTuple):
    new: Sequence[New]
    accepted: "asyncio.Future[list[bool]]"


class Outbox:
    """One loop's pushes, in order: while some are on their way, the next ones gather.

    ``calls`` makes calls of tasks, ``send`` makes one of them and returns what it has added.
    """

    def __init__(
        self, calls: Callable[[Sequence[New]], list[Push]], send: Callable[[Push], Awaitable[list[bool]]]
    ) -> None:
        self._calls = calls
        self._send = send
        self._parcels: list[_Parcel] = []
        self._sending: asyncio.Task[None] | None = None
        self._is_lonely = True

    async def push(self, new: Sequence[New]) -> list[bool]:
        """Add tasks; what is cancelled has been sent all the same."""
        loop = asyncio.get_running_loop()
        parcel = _Parcel(new, loop.create_future())
        self._parcels.append(parcel)
        if self._sending is None:
            sending = asyncio.Task(self._send_all(), loop=loop, eager_start=True)
            self._sending = None if sending.done() else sending
        return await parcel.accepted

    async def _send_all(self) -> None:
        try:
            while self._parcels:
                if not self._is_lonely:
                    await asyncio.sleep(0)  # those whose tasks have just been added may have more
                parcels, self._parcels = self._parcels, []
                self._is_lonely = len(parcels) == 1
                await self._send_together(parcels)
        finally:
            self._sending = None
            for parcel in self._parcels:
                parcel.accepted.cancel()

    async def _send_together(self, parcels: Sequence[_Parcel]) -> None:
        accepted: list[bool] = []
        error: Exception | None = None
        try:
            for call in self._calls([new for parcel in parcels for new in parcel.new]):
                accepted += await self._send(call)
        except Exception as reason:  # noqa: BLE001 - whatever it is, those who wait must learn of it
            error = reason
        except BaseException:
            for parcel in parcels:
                parcel.accepted.cancel()
            raise
        end = 0
        for parcel in parcels:
            begin, end = end, end + len(parcel.new)
            if parcel.accepted.done():
                continue
            if end <= len(accepted):
                parcel.accepted.set_result(accepted[begin:end])
            else:
                assert error is not None
                parcel.accepted.set_exception(error)
