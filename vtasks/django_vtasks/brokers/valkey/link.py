"""Calls of scripts and commands, from threads and from event loops; each has a deadline."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import valkey
from valkey.exceptions import NoScriptError, ReadOnlyError, ResponseError, ValkeyError

from django_vtasks.brokers.valkey.connector import DEADLINE, Connector
from django_vtasks.brokers.valkey.failures import code_of, translated
from django_vtasks.brokers.valkey.pipe import Done, Pipe, checked
from django_vtasks.brokers.valkey.scripts import Argument, Command, script
from django_vtasks.errors import BrokerUnavailable, NotReplicated

MARGIN = 5.0
"""Seconds beyond what a blocking call has asked for after which its connection is given up."""
REPLICATE_WITHIN = 2.0
"""Seconds that replicas have."""
MILLISECONDS = 1000
REDIRECTIONS = 3
"""How often in a row a cluster may send us elsewhere."""

NOT_DONE = object()
"""Says of a call that the server has not begun it."""


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
        self._client: tuple[int, valkey.Valkey] | None = None
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopClients] = WeakKeyDictionary()

    @property
    def address(self) -> str:
        """Return where the server is, without secrets."""
        return self._connector.address

    # Threads -------------------------------------------------------------------------------------------------

    def call(self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = (), *, replicas: int = 0) -> Any:
        """Run a script; raise NotReplicated unless so many replicas have what it wrote."""
        called = script(name)
        if replicas:
            # The wait behind a call that the server cannot obey would take its time all the same.
            return self.command(*called.by_source(keys, arguments), replicas=replicas)
        try:
            return self.command(*called.by_digest(keys, arguments))
        except NoScriptError:
            return self.command(*called.by_source(keys, arguments))

    def command(self, *command: Argument, replicas: int = 0) -> Any:
        """Run a command."""
        until = time.monotonic() + DEADLINE
        for attempts_left in reversed(range(REDIRECTIONS)):
            term = self._term
            try:
                term, client = self._ready_client()
                if not replicas:
                    return client.execute_command(*command)
                pipeline = client.pipeline(transaction=False)
                for one in _with_wait(command, replicas):
                    pipeline.execute_command(*one)
                # The error that it would raise by itself has the command in its text.
                return _checked(pipeline.execute(raise_on_error=False), replicas)
            except NoScriptError:
                raise
            except (ValkeyError, OSError) as error:
                if not (self._is_elsewhere(error, term) and attempts_left and time.monotonic() < until):
                    raise translated(error, self.address) from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Let the connections of threads go, each when it has its answer."""
        with self._lock:
            self._client = None

    def _ready_client(self) -> tuple[int, valkey.Valkey]:
        if self._is_lost:
            self._begin_term()
        with self._lock:
            # A former client is dropped and not closed: another thread may be about to read an answer there. With the
            # last that does, its connections close.
            if self._client is None or self._client[0] != self._term:
                self._client = self._term, self._connector.client()
            return self._client

    def _begin_term(self) -> None:
        """Find the server that is in office, unless another thread just has."""
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
        self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = (), *, replicas: int = 0
    ) -> Any:
        """Do what call() does."""
        called = script(name)
        if replicas:
            return await self.acommand(*called.by_source(keys, arguments), replicas=replicas)
        try:
            return await self.acommand(*called.by_digest(keys, arguments))
        except NoScriptError:
            return await self.acommand(*called.by_source(keys, arguments))

    async def acommand(self, *command: Argument, replicas: int = 0) -> Any:
        """Do what command() does."""
        term = self._term
        until = time.monotonic() + DEADLINE
        try:
            for attempts_left in reversed(range(REDIRECTIONS)):
                clients = await self._ready_clients()
                term = clients.term
                try:
                    return await clients.send(command, replicas, max(0.0, until - time.monotonic()))
                except ResponseError as error:
                    if not (self._is_elsewhere(error, term) and attempts_left):
                        raise
        except NoScriptError:
            raise
        except (ValkeyError, OSError) as error:
            self._is_elsewhere(error, term)
            raise translated(error, self.address) from error
        raise AssertionError("unreachable")

    def send_soon(
        self, name: str, keys: Sequence[str], arguments: Sequence[Argument], done: Callable[[Any], None]
    ) -> bool:
        """Run a script without a turn of the loop for it, if a connection is there; tell whether there is one.

        ``done`` gets the answer, an error that translated() made, or NOT_DONE for a call that the server has refused to
        begin: acall() then knows what to do.
        """
        clients = self._loops.get(asyncio.get_running_loop())
        if self._is_lost or clients is None or clients.term != self._term:
            return False
        term = clients.term

        def finish(answers: list[Any] | Exception) -> None:
            answer: Any = answers if isinstance(answers, Exception) else answers[0]
            if isinstance(answer, NoScriptError) or (
                isinstance(answer, Exception) and self._is_elsewhere(answer, term)
            ):
                answer = NOT_DONE
            elif isinstance(answer, Exception):
                answer = translated(answer, self.address)
            done(answer)

        return clients.send_soon(script(name).by_digest(keys, arguments), finish)

    async def acall_on_news(
        self, waiting: "Waiting", name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> Any:
        """Run a script when there is an element in a list, which is taken, or the time is over.

        The script waits on the server, behind the command that blocks: it has run before this process learns of the
        news. Return None when the server may have moved, or does not know the script; the next call will tell.
        """
        term = self._term
        try:
            clients = await self._ready_clients()
            term = clients.term
            return await clients.wait(waiting, script(name).by_digest(keys, arguments))
        except NoScriptError:
            return None
        except (ValkeyError, OSError) as error:
            # Where the news will be now, or why there is none, the next call learns.
            if not self._is_elsewhere(error, term) and code_of(error) != "UNBLOCKED":
                raise translated(error, self.address) from error
            return None

    async def interrupt(self, waiting: "Waiting") -> None:
        """Let a call of acall_on_news() go on now."""
        if waiting.client is None or waiting.pipe is None:
            return
        try:
            await self.acommand("CLIENT", "UNBLOCK", waiting.client)
        except (BrokerUnavailable, ResponseError):  # not permitted, say
            waiting.pipe.abort()

    async def aclose(self) -> None:
        """Close the connections of the running loop, and let those of threads go."""
        clients = self._loops.pop(asyncio.get_running_loop(), None)
        if clients is not None:
            await clients.close()
        self.close()

    async def _ready_clients(self) -> "_LoopClients":
        if self._is_lost:
            await asyncio.to_thread(self._begin_term)
        loop, term = asyncio.get_running_loop(), self._term
        clients = self._loops.get(loop)
        if clients is None or clients.term != term:
            # What belongs to a loop keeps it alive: nobody else drops what was not closed with it.
            for closed in [other for other in self._loops if other.is_closed()]:
                del self._loops[closed]
            former, clients = clients, _LoopClients(self._connector, term)
            self._loops[loop] = clients
            await clients.open()
            if former is not None:
                former.retire()
        return clients

    # A cluster -----------------------------------------------------------------------------------------------

    def _is_elsewhere(self, error: Exception, term: int) -> bool:
        """Note whether the server of a term may be out of office; tell whether it has refused the call for that."""
        if not self._connector.is_cluster:
            return False
        is_refusal = isinstance(error, ReadOnlyError) or code_of(error) == "MOVED"
        is_doubtful = is_refusal or not isinstance(error, ResponseError) or code_of(error) == "CLUSTERDOWN"
        if is_doubtful and term == self._term:
            self._is_lost = True
        return is_refusal


@dataclass(slots=True)
class Waiting:
    """A wait of up to ``timeout`` seconds for an element in the list ``bell``.

    ``pipe`` is where it takes place, ``client`` the server's id of that.
    """

    bell: str
    timeout: float
    client: int | None = None
    pipe: Pipe | None = None


class _LoopClients:
    """The connections of one event loop and one term; a loop that ends closes its generators, and thereby them."""

    def __init__(self, connector: Connector, term: int) -> None:
        self.term = term
        self._pool = connector.pool("async")
        self._pool_of_waits = connector.pool("wait")
        self._pipe: Pipe | None = None
        self._opening = asyncio.Lock()
        self._waits: set[Pipe] = set()
        self._taken: set[Pipe] = set()
        self._watch = self._close_with_loop()

    async def open(self) -> None:
        """Let the loop know of them."""
        await anext(self._watch)

    async def send(self, command: Command, replicas: int, timeout: float) -> Any:
        """Run a command, and have so many replicas obey it too."""
        async with asyncio.timeout(timeout):
            pipe = await self._opened()
        if not replicas:
            [answer] = checked(await pipe.exchange(command, timeout=timeout))
            return answer
        # On a connection of its own: what comes behind it would wait for the replicas too.
        async with self._waiting_pipe() as pipe:
            try:
                return _checked(checked(await pipe.exchange(*_with_wait(command, replicas), timeout=timeout)), replicas)
            except ResponseError as error:
                if code_of(error) != "UNBLOCKED":
                    raise
                # A script does not block: it is the wait behind it that was ended.
                raise _not_known(replicas, error) from error

    def send_soon(self, command: Command, done: Done) -> bool:
        """Run a command if there is a connection; tell whether there is one."""
        if self._pipe is None or not self._pipe.is_open:
            return False
        self._pipe.send([command], DEADLINE, done)
        return True

    async def wait(self, waiting: "Waiting", command: Command) -> Any:
        """Run a command behind one that blocks; return its answer."""
        async with self._waiting_pipe() as pipe:
            if waiting.client is None:
                [waiting.client] = checked(await pipe.exchange(("CLIENT", "ID"), timeout=DEADLINE))
            waiting.pipe = pipe
            blocking = ("BLPOP", waiting.bell, str(waiting.timeout))
            _, answer = checked(await pipe.exchange(blocking, command, timeout=waiting.timeout + MARGIN))
            return answer

    async def close(self) -> None:
        """Close the connections."""
        await self._watch.aclose()

    def retire(self) -> None:
        """Close each connection when nobody waits for an answer there any more."""
        for pipe in self._all():
            pipe.retire()

    async def _opened(self) -> Pipe:
        if self._pipe is None or not self._pipe.is_open:
            async with self._opening:
                if self._pipe is None or not self._pipe.is_open:
                    self._pipe = await Pipe.open(self._pool)
        return self._pipe

    @contextlib.asynccontextmanager
    async def _waiting_pipe(self) -> AsyncIterator[Pipe]:
        """Give a connection on which nobody else waits."""
        self._waits = {pipe for pipe in self._waits if pipe.is_open}
        free = self._waits.difference(self._taken)
        if free:
            pipe = free.pop()
        else:
            async with asyncio.timeout(DEADLINE):
                pipe = await Pipe.open(self._pool_of_waits)
            self._waits.add(pipe)
        self._taken.add(pipe)
        try:
            yield pipe
        finally:
            self._taken.discard(pipe)
            if not pipe.is_idle:
                # Somebody was cancelled: what the server still says there is nobody's business.
                self._waits.discard(pipe)
                pipe.retire()

    def _all(self) -> list[Pipe]:
        return [*self._waits, *([] if self._pipe is None else [self._pipe])]

    async def _close_with_loop(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await asyncio.gather(*(pipe.aclose() for pipe in self._all()))


def _with_wait(command: Command, replicas: int) -> Sequence[Command]:
    """Ask, behind a command and on its connection, until so many replicas have what it wrote."""
    return command, ("WAIT", replicas, round(REPLICATE_WITHIN * MILLISECONDS))


def _checked(answers: Sequence[Any], wanted: int) -> Any:
    answer, replicas = answers
    if isinstance(answer, Exception):
        raise answer
    if isinstance(replicas, Exception):
        raise _not_known(wanted, replicas)
    if replicas < wanted:
        raise NotReplicated(
            f"What was enqueued is on the primary and on {replicas} replicas, not on {wanted} (MIN_REPLICAS), after "
            f"{REPLICATE_WITHIN:g} s; it runs unless the primary is lost."
        )
    return answer


def _not_known(wanted: int, error: Exception) -> NotReplicated:
    return NotReplicated(
        f"What was enqueued is on a primary that has just been replaced; nobody knows whether {wanted} replicas "
        f"(MIN_REPLICAS) have it too: {error}"
    )
