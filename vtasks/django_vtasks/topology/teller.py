"""Tells the supervisor what an actor's process has counted."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from django_vtasks.metrics import exposition, projects, snapshot
from django_vtasks.metrics.snapshot import Snapshot
from vtasks_supervisor import Context

logger = logging.getLogger(__name__)

FIRST_PAUSE, PAUSE = 0.05, 1.0
"""Seconds between two looks at the counts; a young actor, which may be dead a second later, looks more often."""
IDLE_TURNS = 15
"""Looks at the counts for one at the project's metrics, while nothing else tells that these may have changed."""
ALL_EVERY = 30
"""Snapshots after which all is told, in case that one was lost."""
LAST_WORDS = 0.5
"""Seconds for reading the project's metrics at the end."""


class Teller:
    """Speaks from start() until stop(), and only when there is news; ``is_busy`` tells whether tasks run.

    For the one actor of a process, whose counts are all the actor's.
    """

    def __init__(self, context: Context, is_busy: Callable[[], bool]) -> None:
        self._say = context.say
        self._is_busy = is_busy
        self._counts = snapshot.of_counts()
        self._project = snapshot.of_project()
        self._told = self._turns = 0
        self._telling: asyncio.Task[None] | None = None
        self._has_failed = False
        # The supervisor shows what is counted here: in this process's registry it would be counted again.
        exposition.process.sources.clear()

    def start(self) -> None:
        """Begin to tell."""
        self._telling = asyncio.create_task(self._tell())

    async def stop(self) -> None:
        """Tell everything once more, and end."""
        if self._telling is not None:
            self._telling.cancel()
        self._say(Snapshot(counts=self._counts.take(everything=True)))
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self._tell_of_project(everything=True)

    async def _tell(self) -> None:
        pause = FIRST_PAUSE
        while True:
            await asyncio.sleep(pause)
            pause = min(PAUSE, 2 * pause)
            everything = self._told >= ALL_EVERY
            is_new = self._tell_counts(everything=everything)
            self._turns += 1
            if is_new or self._is_busy() or self._turns >= IDLE_TURNS:
                self._turns = 0
                await self._tell_of_project(everything=everything)

    def _tell_counts(self, *, everything: bool) -> bool:
        """Tell of what has changed; return whether anything has."""
        counts = self._counts.take()
        if not counts:
            return False
        self._told = 0 if everything else self._told + 1
        self._say(Snapshot(counts=self._counts.take(everything=True) if everything else counts))
        return True

    async def _tell_of_project(self, *, everything: bool) -> None:
        if not projects.are_readable():
            return
        try:
            # On a thread: a collector of the project's own may do anything.
            changed = await asyncio.to_thread(self._project.take, everything=everything)
        except Exception:
            if not self._has_failed:
                logger.exception("The project's metrics cannot be read")
            self._has_failed = True
            return
        self._has_failed = False
        if changed:
            self._say(Snapshot(project=changed))
