"""What coroutines push at the same time goes out together."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from valkey.exceptions import ResponseError

from django_vtasks import wire
from django_vtasks.brokers.valkey.link import NOT_DONE, Link
from django_vtasks.brokers.valkey.pushing import Push
from django_vtasks.envelope import Envelope
from django_vtasks.errors import BrokerUnavailable, NotReplicated, PayloadTooLarge

type _Parcel = tuple[Sequence[Envelope], asyncio.Future[list[bool]]]
"""Tasks of one caller, and what tells it which of them have been accepted."""
type Pushes = Callable[[Sequence[Envelope], Sequence[bytes]], list[Push]]
type _Fate = bool | Exception | None
"""Whether a task has been accepted, or why not; None when nobody has heard of it."""


class Outbox:
    """One loop's pushes, in order: while some are on their way, the next ones gather.

    ``pushes`` makes requests of tasks; ``replicas`` is how many must have each.
    """

    def __init__(self, link: Link, pushes: Pushes, replicas: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._pushes = pushes
        self._replicas = replicas
        self._parcels: list[_Parcel] = []
        self._is_sending = False
        self._is_lonely = True
        self._task: asyncio.Task[None] | None = None

    def push(self, envelopes: Sequence[Envelope]) -> "asyncio.Future[list[bool]]":
        """Add tasks; what is cancelled has been sent all the same. To await them raises what wire.encode() does."""
        accepted = self._loop.create_future()
        self._parcels.append((envelopes, accepted))
        if not self._is_sending:
            self._send_soon()
        return accepted

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
            parcels, envelopes, payloads = _encoded(parcels)
            pushes = self._pushes(envelopes, payloads)
            if len(pushes) == 1 and not self._replicas:
                [push] = pushes
                if self._link.send_soon(push.request, partial(self._sent, parcels, push)):
                    return
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must learn of it
            self._conclude(parcels, _unknown(parcels), error)
        else:
            self._spawn(parcels, pushes)

    def _sent(self, parcels: Sequence[_Parcel], push: Push, answer: Any) -> None:
        if answer is NOT_DONE:
            self._spawn(parcels, [push])
        elif isinstance(answer, Exception):
            # What this server refuses of one queue is nothing to those that have gathered meanwhile.
            is_refusal = isinstance(answer.__cause__, ResponseError)
            self._conclude(parcels, [answer] * len(push.places), None if is_refusal else answer)
        else:
            self._deliver(parcels, push.accepted(answer))

    def _spawn(self, parcels: Sequence[_Parcel], pushes: Sequence[Push]) -> None:
        fates = _unknown(parcels)
        self._task = self._loop.create_task(self._send_one_by_one(pushes, fates))
        self._task.add_done_callback(lambda task: self._conclude(parcels, fates, _error_of(task)))

    async def _send_one_by_one(self, pushes: Sequence[Push], fates: list[_Fate]) -> None:
        """Push, and note what became of each task; raise when the server is not there for those that are left."""
        for push in pushes:
            try:
                answer = await self._link.asend(push.request, replicas=self._replicas)
            except BrokerUnavailable as error:
                # What this server refuses of one queue, or has not enough replicas for, is nothing to the others.
                if not isinstance(error, NotReplicated) and not isinstance(error.__cause__, ResponseError):
                    raise
                told: Sequence[_Fate] = [error] * len(push.places)
            else:
                told = push.accepted(answer)
            for place, fate in zip(push.places, told, strict=True):
                fates[place] = fate

    def _deliver(self, parcels: Sequence[_Parcel], fates: list[bool]) -> None:
        """Tell those who wait what has become of all tasks, and send what has gathered meanwhile."""
        end = 0
        for envelopes, accepted in parcels:
            begin, end = end, end + len(envelopes)
            if not accepted.done():
                accepted.set_result(fates[begin:end])
        self._is_sending = False
        if self._parcels:
            self._send_soon()

    def _conclude(self, parcels: Sequence[_Parcel], fates: Sequence[_Fate], error: BaseException | None) -> None:
        """Tell those who wait, and send what has gathered meanwhile; not to a server that has just not answered."""
        end = 0
        for envelopes, accepted in parcels:
            begin, end = end, end + len(envelopes)
            _tell(accepted, fates[begin:end], error)
        self._is_sending = False
        if isinstance(error, BrokerUnavailable):
            gathered, self._parcels = self._parcels, []
            gathered, *_ = _encoded(gathered)  # what can never be sent is no matter of this server
            for _, accepted in gathered:
                _tell(accepted, [None], error)
        elif self._parcels:
            self._send_soon()


def _encoded(parcels: list[_Parcel]) -> tuple[list[_Parcel], list[Envelope], list[bytes]]:
    """Return the parcels with all their tasks and payloads; who has tasks that cannot be encoded learns why."""
    envelopes = [envelope for envelopes, _ in parcels for envelope in envelopes]
    try:
        return parcels, envelopes, wire.encode_all(envelopes)
    except (TypeError, PayloadTooLarge) as error:
        if len(parcels) == 1:
            _tell(parcels[0][1], [error], None)
            return [], [], []
    apart = [_encoded([parcel]) for parcel in parcels]
    return (
        [parcel for sound, _, _ in apart for parcel in sound],
        [envelope for _, envelopes, _ in apart for envelope in envelopes],
        [payload for _, _, payloads in apart for payload in payloads],
    )


def _unknown(parcels: Sequence[_Parcel]) -> list[_Fate]:
    return [None] * sum(len(envelopes) for envelopes, *_ in parcels)


def _tell(accepted: "asyncio.Future[list[bool]]", fates: Sequence[_Fate], error: BaseException | None) -> None:
    if accepted.done():
        return
    refused = next((fate for fate in fates if isinstance(fate, Exception)), None)
    if refused is not None:
        accepted.set_exception(refused)
    elif None not in fates:
        accepted.set_result([fate is True for fate in fates])
    elif isinstance(error, Exception):
        accepted.set_exception(error)
    else:
        accepted.cancel()


def _error_of(task: "asyncio.Task[None]") -> BaseException | None:
    return None if task.cancelled() else task.exception()
