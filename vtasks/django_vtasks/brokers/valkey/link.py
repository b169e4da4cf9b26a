"""Requests from threads and from event loops, each with a deadline."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from valkey.exceptions import NoScriptError, ReadOnlyError, ResponseError, ValkeyError

from django_vtasks.brokers.valkey.connector import DEADLINE, IN_ALL, Connector
from django_vtasks.brokers.valkey.failures import code_of, translated
from django_vtasks.brokers.valkey.lines import Lines
from django_vtasks.brokers.valkey.loops import LoopClients, Waiting
from django_vtasks.brokers.valkey.pipe import Remainder
from django_vtasks.brokers.valkey.replicas import answer_of, with_wait
from django_vtasks.brokers.valkey.request import Argument, Request, answer_in, checked, command
from django_vtasks.brokers.valkey.scripts import script
from django_vtasks.brokers.valkey.threads import Within

REDIRECTIONS = 3
"""How often in a row a cluster may send us elsewhere."""

NOT_DONE = object()
"""Says of a request that the server has not begun it."""


class Link:
    """All connections of a process to one server; a loop's are its own.

    In a cluster the server may be replaced. A term begins when the one that is in office is found, and with it the use
    of new connections; those of former terms are closed when nobody waits for an answer on them any more.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._lock = threading.Lock()
        self._finding = threading.Lock()
        self._term = 0
        self._is_lost = connector.is_cluster
        self._lines: tuple[int, int, Lines] | None = None
        self._loops: dict[asyncio.AbstractEventLoop, LoopClients] = {}
        self._searches: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}

    @property
    def address(self) -> str:
        """Return where the server is, without secrets."""
        return self._connector.address

    # Threads -------------------------------------------------------------------------------------------------

    def call(self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = (), *, replicas: int = 0) -> Any:
        """Run a script; see send()."""
        return self.send(script(name).call(keys, arguments), replicas=replicas)

    def command(self, *words: Argument) -> Any:
        """Run a command; see send()."""
        return self.send(command(*words))

    def send(self, request: Request, *, replicas: int = 0, meanwhile: Callable[[], object] | None = None) -> Any:
        """Return the server's answer; raise NotReplicated unless so many replicas have what the request wrote.

        ``meanwhile`` is done each time that the request has been sent; who has something to do meanwhile, if only
        nothing(), is in a hurry, and may then stay awake for the answer.
        """
        with Within(IN_ALL):
            if replicas and request.in_full is not None:
                # The wait behind a call that the server cannot obey would take its time all the same.
                request = request.in_full()
            try:
                return self._send(request, replicas, meanwhile)
            except NoScriptError:
                if request.in_full is None:
                    raise
                return self._send(request.in_full(), replicas, meanwhile)

    def _send(self, request: Request, replicas: int, meanwhile: Callable[[], object] | None) -> Any:
        until = time.monotonic() + DEADLINE
        for attempts_left in reversed(range(REDIRECTIONS)):
            term = self._term
            try:
                term, lines = self._ready_lines()
                if replicas:
                    return answer_of(lines.exchange(with_wait(request, replicas), meanwhile), replicas)
                return checked(lines.exchange(request, meanwhile))
            except NoScriptError:
                raise
            except (ValkeyError, OSError) as error:
                if not (self._is_elsewhere(error, term) and attempts_left and time.monotonic() < until):
                    raise translated(error, self.address) from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Let the connections of threads go, each when it has its answer."""
        with self._lock:
            self._retire_lines()

    def _ready_lines(self) -> tuple[int, Lines]:
        if self._is_lost:
            self._begin_term()
        ready = self._lines
        if ready is None or ready[:2] != (self._term, os.getpid()):
            with self._lock:
                ready = self._lines
                # After a fork there are others, whose names tell the process.
                if ready is None or ready[:2] != (self._term, os.getpid()):
                    self._retire_lines()
                    ready = self._lines = self._term, os.getpid(), Lines(self._connector)
        return ready[0], ready[2]

    def _retire_lines(self) -> None:
        if self._lines is not None:
            self._lines[2].retire()
            self._lines = None

    def _begin_term(self) -> None:
        """Find the server that is in office, unless another thread just has."""
        with Within(DEADLINE):
            if not self._finding.acquire(timeout=DEADLINE):
                raise TimeoutError
            try:
                if self._is_lost:
                    self._connector.find_primary()
                    self._term += 1
                    self._is_lost = False
            finally:
                self._finding.release()

    # Loops ---------------------------------------------------------------------------------------------------

    async def acall(
        self,
        name: str,
        keys: Sequence[str],
        arguments: Sequence[Argument] = (),
        *,
        patience: float | None = None,
        remainder: Remainder | None = None,
    ) -> Any:
        """Do what call() does.

        With ``patience`` the answer may be large: others do not wait behind it, and it may be so many seconds late
        while it arrives. The ``remainder`` gets it when this is cancelled.
        """
        return await self.asend(script(name).call(keys, arguments), patience=patience, remainder=remainder)

    async def asend(
        self,
        request: Request,
        *,
        replicas: int = 0,
        patience: float | None = None,
        remainder: Remainder | None = None,
    ) -> Any:
        """Do what send() does, or acall()."""
        if replicas and request.in_full is not None:
            request = request.in_full()
        try:
            return await self._asend(request, replicas, patience, remainder)
        except NoScriptError:
            if request.in_full is None:
                raise
            return await self._asend(request.in_full(), replicas, patience, remainder)

    async def _asend(self, request: Request, replicas: int, patience: float | None, remainder: Remainder | None) -> Any:
        term = self._term
        until = time.monotonic() + DEADLINE
        try:
            for attempts_left in reversed(range(REDIRECTIONS)):
                clients = await self._ready_clients()
                term = clients.term
                try:
                    timeout = max(0.0, until - time.monotonic())
                    return await clients.send(request, replicas, timeout, patience, remainder)
                except ResponseError as error:
                    if not (self._is_elsewhere(error, term) and attempts_left):
                        raise
        except NoScriptError:
            raise
        except (ValkeyError, OSError) as error:
            self._is_elsewhere(error, term)
            raise translated(error, self.address) from error
        raise AssertionError("unreachable")

    def send_soon(self, request: Request, done: Callable[[Any], None]) -> bool:
        """Send a request without a turn of the loop for it, if a connection is there; tell whether there is one.

        ``done`` gets the answer, an error that translated() made, or NOT_DONE for what the server has refused to
        begin: asend() then knows what to do.
        """
        clients = self._loops.get(asyncio.get_running_loop())
        if self._is_lost or clients is None or clients.term != self._term:
            return False

        # It holds the connections until the answer is here: nobody else may, when a term ends meanwhile.
        def finish(answers: list[Any] | Exception) -> None:
            answer: Any = answers if isinstance(answers, Exception) else answer_in(answers)
            if isinstance(answer, NoScriptError) or (
                isinstance(answer, Exception) and self._is_elsewhere(answer, clients.term)
            ):
                answer = NOT_DONE
            elif isinstance(answer, Exception):
                cause, answer = answer, translated(answer, self.address)
                if answer is not cause:
                    answer.__cause__ = cause
            done(answer)

        return clients.send_soon(request, finish)

    async def acall_on_news(
        self,
        waiting: Waiting,
        name: str,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        patience: float,
        remainder: Remainder,
    ) -> Any:
        """Run a script when there is an element in a list, which is taken, or the time is over, or it is interrupted.

        The script waits on the server, behind the command that blocks: it has run before this process learns of the
        news, and even where the server refuses to wait, which then is noted. Return None when the server may have
        moved, or does not know the script; the next call will tell.
        """
        term = self._term
        try:
            clients = await self._ready_clients()
            term = clients.term
            news, answer = await clients.wait(waiting, script(name).call(keys, arguments), patience, remainder)
            if isinstance(news, ValkeyError) and code_of(news) != "UNBLOCKED" and not self._is_elsewhere(news, term):
                waiting.refusal = translated(news, self.address)
            if isinstance(answer, Exception):
                raise answer
        except NoScriptError:
            return None
        except (ValkeyError, OSError) as error:
            # Where the news will be now the next call learns.
            if not self._is_elsewhere(error, term):
                raise translated(error, self.address) from error
            return None
        return answer

    async def aclose(self) -> None:
        """Close the connections of the running loop, and let those of threads go."""
        clients = self._loops.pop(asyncio.get_running_loop(), None)
        if clients is not None:
            await clients.close()
        self.close()

    async def _ready_clients(self) -> LoopClients:
        if self._is_lost:
            await self._search()
        loop, term = asyncio.get_running_loop(), self._term
        clients = self._loops.get(loop)
        if clients is None or clients.term != term:
            # What belongs to a loop keeps it alive: nobody else drops what was not closed with it.
            for closed in [other for other in self._loops if other.is_closed()]:
                del self._loops[closed]
            former, clients = clients, LoopClients(self._connector, term)
            self._loops[loop] = clients
            await clients.open()
            if former is not None:
                former.retire()
        return clients

    async def _search(self) -> None:
        """Begin a term on a thread, one for all that this loop has to do."""
        loop = asyncio.get_running_loop()
        search = self._searches.get(loop)
        if search is None:
            search = self._searches[loop] = loop.create_task(asyncio.to_thread(self._begin_term))
            search.add_done_callback(self._search_ended)
        await asyncio.shield(search)

    def _search_ended(self, search: "asyncio.Task[None]") -> None:
        del self._searches[search.get_loop()]
        if not search.cancelled():
            search.exception()  # Those who wait have it; there may be none any more.

    def _leave(self, term: int) -> None:
        """Begin another term: where the name now leads, there may be the primary that this server is no more."""
        with self._lock:
            if term == self._term:
                self._term += 1

    # A cluster -----------------------------------------------------------------------------------------------

    def _is_elsewhere(self, error: Exception, term: int) -> bool:
        """Note whether the server of a term may be out of office; tell whether it has refused the call for that."""
        if not self._connector.is_cluster:
            if isinstance(error, ReadOnlyError):
                self._leave(term)
            return False
        is_refusal = isinstance(error, ReadOnlyError) or code_of(error) == "MOVED"
        is_doubtful = is_refusal or not isinstance(error, ResponseError) or code_of(error) == "CLUSTERDOWN"
        if is_doubtful and term == self._term:
            self._is_lost = True
        return is_refusal
