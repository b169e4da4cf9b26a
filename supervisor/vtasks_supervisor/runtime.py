"""Runs one actor: start, pump the mailbox, heartbeat, stop."""

import asyncio
import logging
import sys
import traceback
from collections.abc import Awaitable, Mapping
from typing import Any

from vtasks_supervisor.actor import Actor
from vtasks_supervisor.channel import Channel
from vtasks_supervisor.errors import ChannelClosed
from vtasks_supervisor.frames import Beat, Failed, Leaving, Pause, Ready, Resume, Retiring, Said, Stop, Tell
from vtasks_supervisor.mailbox import Mailbox
from vtasks_supervisor.recorder import Recorder

logger = logging.getLogger(__name__)

FIRST_BEAT = 0.05
"""Seconds between the first two beats; the pauses double from there."""
BEAT_EVERY = 1.0
"""Seconds between two beats of a loop that has something to tell, or a third of its liveness time-out.

One that has not looks half as often whether it has.
"""
IDLE_BEAT_EVERY = 10.0
"""Seconds between two beats of one that has not, or a third of its liveness time-out."""
ORPHAN_TIMEOUT = 0.5
"""Seconds that an actor has to let go of everything when its supervisor is dead."""
FLUSH_TIMEOUT = 1.0
LET_GO_TIMEOUT = 2.0
"""Seconds that an actor has for on_stop() after a failure."""


class Runtime:
    """The surroundings of one actor, on the loop of whoever awaits run()."""

    def __init__(
        self,
        actor: Actor[Any],
        channel: Channel,
        *,
        name: str,
        incarnation: int,
        recorder: Recorder | None,
        liveness_timeout: float,
        stop_timeout: float,
    ) -> None:
        self.name = name
        self.incarnation = incarnation
        self.recorder = recorder
        self._beat_every = min(BEAT_EVERY, liveness_timeout / 3)
        self._idle_beat_every = min(IDLE_BEAT_EVERY, liveness_timeout / 3)
        self._look_every = min(2 * self._beat_every, self._idle_beat_every)
        self._actor = actor
        self._channel = channel
        self._mailbox: Mailbox[Any] = Mailbox()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._timeout = self._stop_timeout = stop_timeout
        self._switches: asyncio.Queue[Pause | Resume] = asyncio.Queue()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # What the actor may ask for: see Context -----------------------------------------------------------------

    def say(self, message: object) -> None:
        """Send a message to the supervisor's hook."""
        self._channel.send(Said(message))

    def retire(self, reason: str) -> None:
        """Ask for a successor."""
        self._channel.send(Retiring(reason))

    def finish(self) -> None:
        """End normally, as if told to stop."""
        self.stop(self._stop_timeout)

    def fail(self, error: BaseException) -> None:
        """End as if the actor had raised this."""
        if not self._failure.done() and not self._stopping.is_set():
            self._failure.set_exception(error)

    # The life ------------------------------------------------------------------------------------------------

    async def run(self, facts: Mapping[str, Any]) -> int:
        """Live; return the exit code. The supervisor hears ``facts`` when the actor is ready."""
        reading = asyncio.create_task(self._read())
        try:
            # Told to stop before it was ready: what it has begun to open is closed with the process.
            await self._unless_stopped(_contained(self._actor.on_start(self)))
            if not self._stopping.is_set():
                self._channel.send(Ready(facts))
                await self._unless_stopped(self._live())
                await self._leave()
            else:
                await _contained(self._actor.on_stop(self._timeout, self._hurry))
            self._channel.send(Leaving())
        except asyncio.CancelledError:
            await self._let_go()
            raise
        except Exception as error:
            logger.exception("Actor %s failed", self.name)
            self._channel.send(Failed(f"{type(error).__name__}: {error}", traceback.format_exc()))
            await self._let_go()
            return 1
        finally:
            reading.cancel()
            await self._channel.flush(FLUSH_TIMEOUT)
        return 0

    def stop(self, timeout: float, *, at_once: bool = False) -> None:
        """Finish within ``timeout`` seconds; a second call can only hurry the first."""
        if not self._stopping.is_set():
            self._timeout = timeout
            self._stopping.set()
        if at_once:
            self._hurry.set()

    async def _unless_stopped(self, duty: Awaitable[None]) -> None:
        """Await a duty until it ends, or is no longer wanted."""
        working = asyncio.ensure_future(duty)
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not working.done():
                working.cancel()
                await asyncio.wait({working})
        if not working.cancelled() and (error := working.exception()) is not None:
            raise error

    async def _live(self) -> None:
        try:
            async with asyncio.TaskGroup() as duties:
                duties.create_task(self._pump())
                duties.create_task(self._beat())
                duties.create_task(self._switch())
                await self._failure
        except ExceptionGroup as group:
            # Whoever reads of it shall read of the actor's error, not of the group that is made of it here.
            raise group.exceptions[0] from None

    async def _leave(self) -> None:
        """Let the actor stop, and the supervisor see that it still lives."""
        beating = asyncio.create_task(self._beat())
        try:
            await _contained(self._actor.on_stop(self._timeout, self._hurry))
        finally:
            beating.cancel()
            await asyncio.wait({beating})

    async def _let_go(self) -> None:
        """Give the actor a moment to let go of what it holds, although it has failed."""
        self.stop(0.0, at_once=True)
        try:
            async with asyncio.timeout(LET_GO_TIMEOUT):
                await _contained(self._actor.on_stop(0.0, self._hurry))
        except Exception:
            logger.exception("Actor %s could not let go of what it held", self.name)

    async def _read(self) -> None:
        try:
            while True:
                self._obey(await self._channel.receive())
        except ChannelClosed:
            self.stop(ORPHAN_TIMEOUT, at_once=True)

    def _obey(self, frame: Any) -> None:
        if isinstance(frame, Tell):
            if not self._mailbox.offer(frame.message):
                logger.error("The mailbox of %s is full; a message is lost", self.name)
        elif isinstance(frame, Stop):
            self.stop(frame.timeout, at_once=frame.at_once)
        elif isinstance(frame, Pause | Resume):
            self._switches.put_nowait(frame)

    async def _pump(self) -> None:
        while True:
            await _contained(self._actor.handle(await self._mailbox.take()))

    async def _switch(self) -> None:
        while True:
            switch = await self._switches.get()
            await _contained(self._actor.on_pause() if isinstance(switch, Pause) else self._actor.on_resume())

    async def _beat(self) -> None:
        """Tell the supervisor regularly that the loop runs, and at once what is new."""
        loop = asyncio.get_running_loop()
        told: Mapping[str, Any] | None = None
        told_at = due = loop.time()
        pause = FIRST_BEAT / 2
        while True:
            lag = max(0.0, loop.time() - due)
            vitals = dict(self._actor.vitals())  # the actor may go on with its own
            has_news = vitals != told
            if has_news or loop.time() - told_at >= self._idle_beat_every:
                self._channel.send(Beat(vitals, lag, _peak_memory()))
                told, told_at = vitals, loop.time()
            # A young actor says sooner that it has done some work: it may be dead a second later.
            pause = min(2 * pause, self._beat_every if has_news else self._look_every)
            due = loop.time() + pause
            await asyncio.sleep(pause)


async def _contained(call: Awaitable[None]) -> None:
    """Let a sys.exit() end the actor, and not the loop with all that runs there."""
    try:
        await call
    except SystemExit as error:
        raise RuntimeError(f"The actor called sys.exit({error.code!r})") from error


def _peak_memory() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
