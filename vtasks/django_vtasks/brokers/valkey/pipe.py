"""An event loop's connection: calls follow each other on it without waiting for answers.

The driver's own client takes several turns of the loop for a call, and more time than the server. It connects here as
there, with all that belongs to it: TLS, passwords, the number of the database. Then the connection's bytes come here.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Self

import msgspec
import valkey.asyncio
from libvalkey import Reader
from valkey.exceptions import ConnectionError as ValkeyConnectionError
from valkey.exceptions import InvalidResponse

from django_vtasks.brokers.valkey.connector import IDLE
from django_vtasks.brokers.valkey.request import Request

SILENCE = 4.0
"""Seconds without a byte after which an answer that has begun to arrive does not arrive any more."""
CLOSE_WITHIN = 1.0
READ_AT_ONCE = 256 * 1024
"""Bytes."""

type Done = Callable[[list[Any] | Exception], None]
"""Gets the answers to a request, errors of the server among them, or why there are none. It must not raise."""


class _Exchange(msgspec.Struct, frozen=True):
    size: int
    deadline: float
    answers: list[Any]
    done: Done
    patience: float


class Remainder:
    """The answers to what was sent for somebody who has been cancelled meanwhile; ``is_due`` if there are any."""

    def __init__(self) -> None:
        self.is_due = False
        self.answers: asyncio.Future[list[Any] | Exception] = asyncio.get_running_loop().create_future()


class Pipe(asyncio.BufferedProtocol):
    """One connection; open() makes it. ``client`` is the server's id of it, once somebody has asked."""

    def __init__(self, connection: valkey.asyncio.Connection) -> None:
        self.client: int | None = None
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._transport = connection._writer.transport  # noqa: SLF001 - the driver has no other way to it
        self._reader = Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,  # noqa: SLF001 - nor to its errors
            notEnoughData=_NOTHING,
        )
        # One for all that arrives: to make one for each answer takes a tenth of the round trip.
        self._buffer = memoryview(bytearray(READ_AT_ONCE))
        self._exchanges: deque[_Exchange] = deque()
        self._used_at = self._loop.time()
        self._looking: asyncio.TimerHandle | None = None
        self._looks_at = 0.0
        self._heard_at = 0.0
        self._is_retired = False
        self._closed = self._loop.create_future()
        self._transport.set_protocol(self)

    @classmethod
    async def open(cls, pool: valkey.asyncio.ConnectionPool) -> Self:
        """Connect as the pool's connections do."""
        connection = pool.make_connection()
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return cls(connection)

    @property
    def is_open(self) -> bool:
        """Tell whether commands can be sent; a server that has ended since has said so."""
        return not (self._transport.is_closing() or self._is_retired)

    @property
    def is_fresh(self) -> bool:
        """Tell whether commands can be sent on a way that was open of late: firewalls forget idle connections."""
        return self.is_open and (not self.is_idle or self._loop.time() - self._used_at < IDLE)

    @property
    def is_connected(self) -> bool:
        """Tell whether answers can still come."""
        return not self._transport.is_closing()

    @property
    def is_idle(self) -> bool:
        """Tell whether no answer is awaited."""
        return not self._exchanges

    def send(self, request: Request, timeout: float, done: Done, patience: float = 0.0) -> None:
        """Send a request; ``done`` is called on the loop with its answers, within about ``timeout`` seconds.

        An answer that still arrives then has ``patience`` seconds more.
        """
        self._transport.write(request.packed)
        self._used_at = self._loop.time()
        self._exchanges.append(_Exchange(request.answers, self._used_at + timeout, [], done, patience))
        if self._looking is None or self._used_at + timeout < self._looks_at:
            self._look_at(self._used_at + timeout)

    async def exchange(
        self, request: Request, timeout: float, patience: float = 0.0, remainder: Remainder | None = None
    ) -> list[Any]:
        """Do what send() does, even if this is cancelled; return the answers, errors of the server among them.

        What arrives after that is put into the ``remainder``.
        """
        answers: asyncio.Future[list[Any]] = self._loop.create_future()

        def done(result: list[Any] | Exception) -> None:
            if answers.cancelled():
                if remainder is not None:
                    remainder.answers.set_result(result)
            elif isinstance(result, Exception):
                answers.set_exception(result)
            else:
                answers.set_result(result)

        self.send(request, timeout, done, patience)
        try:
            return await answers
        except asyncio.CancelledError:
            if remainder is not None:
                remainder.is_due = True
                if not answers.cancelled() and answers.exception() is None:  # it has arrived, too late for who waited
                    remainder.answers.set_result(answers.result())
            raise

    def retire(self) -> None:
        """Send nothing more, and close when all answers are here or overdue."""
        self._is_retired = True
        if self.is_idle:
            self._transport.close()
        else:
            self._look_at(self._exchanges[0].deadline)

    def abort(self) -> None:
        """Close now; who waits learns that there is no answer."""
        self._transport.abort()

    async def aclose(self) -> None:
        """Close now, and return when that is done."""
        self._transport.close()
        await asyncio.wait({self._closed}, timeout=CLOSE_WITHIN)

    # What the transport tells --------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to put what arrives."""
        return self._buffer

    def buffer_updated(self, size: int) -> None:
        """Take answers in."""
        self._heard_at = self._loop.time()
        self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type] # it takes any buffer, and copies
        try:
            while (answer := self._reader.gets()) is not _NOTHING:
                exchange = self._exchanges[0]
                exchange.answers.append(answer)
                if len(exchange.answers) == exchange.size:
                    self._exchanges.popleft()
                    exchange.done(exchange.answers)
        except (InvalidResponse, IndexError) as error:
            self._fail(InvalidResponse(f"an answer that nobody has asked for: {error}"))
        if self._is_retired and self.is_idle:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell all who wait that there is no answer."""
        self._connection._reader = self._connection._writer = None  # noqa: SLF001 - or it would say that it is open
        if not self._closed.done():
            self._closed.set_result(None)
        self._fail(ValkeyConnectionError(f"the connection was closed{f': {error}' if error else ''}"))

    def _look(self) -> None:
        self._looking = None
        if self.is_idle:
            return
        overdue_at = self._overdue_at(self._exchanges[0])
        if overdue_at <= self._loop.time():
            self._fail(TimeoutError())
        else:
            self._look_at(overdue_at)

    def _look_at(self, when: float) -> None:
        """Look then at whether an answer is overdue: the first of them, or none that is here by then."""
        if self._looking is not None:
            self._looking.cancel()
        self._looking, self._looks_at = self._loop.call_at(when, self._look), when

    def _overdue_at(self, exchange: _Exchange) -> float:
        """Return when an answer is overdue, if nothing comes until then."""
        if self._is_retired:
            return exchange.deadline
        return max(exchange.deadline, min(self._heard_at + SILENCE, exchange.deadline + exchange.patience))

    def _fail(self, error: Exception) -> None:
        self._transport.abort()
        exchanges, self._exchanges = self._exchanges, deque()
        for exchange in exchanges:
            exchange.done(error)


_NOTHING = object()
