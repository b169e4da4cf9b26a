"""What coroutines push at the same time goes out together."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, NamedTuple

from django_vtasks.brokers.valkey.link import NOT_DONE, Link
from django_vtasks.brokers.valkey.pushing import New, Push


class _Parcel(NamedTuple):
    new: Sequence[New]
    accepted: "asyncio.Future[list[bool]]"


class Outbox:
    """One loop's pushes, in order: while some are on their way, the next ones gather.

    ``calls`` makes calls of tasks; ``replicas`` is how many must have each.
    """

    def __init__(self, link: Link, calls: Callable[[Sequence[New]], list[Push]], replicas: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._calls = calls
        self._replicas = replicas
        self._parcels: list[_Parcel] = []
        self._is_sending = False
        self._is_lonely = True
        self._tasks: set[asyncio.Task[None]] = set()

    async def push(self, new: Sequence[New]) -> list[bool]:
        """Add tasks; what is cancelled has been sent all the same."""
        parcel = _Parcel(new, self._loop.create_future())
        self._parcels.append(parcel)
        if not self._is_sending:
            self._send_soon()
        return await parcel.accepted

    def _send_soon(self) -> None:
        """Send now, or where several came together the last time, in the next turn of the loop: they may have more."""
        self._is_sending = True
        if self._is_lonely:
            self._send()
        else:
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        parcels, self._parcels = self._parcels, []
        self._is_lonely = len(parcels) == 1
        try:
            calls = self._calls([new for parcel in parcels for new in parcel.new])
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must learn of it
            self._conclude(parcels, [], error)
            return
        if len(calls) == 1 and not self._replicas:
            [call] = calls
            if self._link.send_soon(call.script, call.keys, call.arguments, partial(self._sent, parcels, call)):
                return
        self._spawn(self._send_one_by_one(parcels, calls))

    def _sent(self, parcels: Sequence[_Parcel], call: Push, answer: Any) -> None:
        if answer is NOT_DONE:
            self._spawn(self._send_one_by_one(parcels, [call]))
        elif isinstance(answer, Exception):
            self._conclude(parcels, [], answer)
        else:
            self._conclude(parcels, call.accepted(answer), None)

    def _spawn(self, sending: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(sending)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_one_by_one(self, parcels: Sequence[_Parcel], calls: Sequence[Push]) -> None:
        accepted: list[bool] = []
        error: BaseException | None = None
        try:
            for call in calls:
                answer = await self._link.acall(call.script, call.keys, call.arguments, replicas=self._replicas)
                accepted += call.accepted(answer)
        except BaseException as reason:
            error = reason
            if not isinstance(reason, Exception):
                raise
        finally:
            self._conclude(parcels, accepted, error)

    def _conclude(self, parcels: Sequence[_Parcel], accepted: Sequence[bool], error: BaseException | None) -> None:
        """Tell those who wait, and send what has gathered meanwhile."""
        end = 0
        for parcel in parcels:
            begin, end = end, end + len(parcel.new)
            if parcel.accepted.done():
                continue
            if end <= len(accepted):
                parcel.accepted.set_result(list(accepted[begin:end]))
            elif isinstance(error, Exception):
                parcel.accepted.set_exception(error)
            else:
                parcel.accepted.cancel()
        self._is_sending = False
        if self._parcels:
            self._send_soon()
