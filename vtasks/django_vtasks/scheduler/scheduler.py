"""Turns a candidate on a thread of its own, and sleeps in between."""

import asyncio
import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from django_vtasks.brokers.base import Coordinator
from django_vtasks.scheduler.announcer import Announcer
from django_vtasks.scheduler.candidate import Candidate, State
from django_vtasks.scheduler.entries import Entry


class Scheduler:
    """Enqueue what is due on the store of backend ``alias`` until stop(), whenever no other scheduler leads.

    ``node`` names this scheduler, ``sender`` is the backend's class. After ``lease`` seconds at most another scheduler
    has taken over from one that vanished.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        entries: Sequence[Entry],
        *,
        node: str,
        lease: float,
        alias: str,
        sender: type,
    ) -> None:
        announcer = Announcer(entries, alias, sender)
        self._candidate = Candidate(coordinator, entries, node=node, lease=lease, tell=announcer.tell)
        self._stopping = asyncio.Event()

    @property
    def is_leader(self) -> bool:
        """Tell whether this scheduler leads."""
        return self._candidate.is_leader

    def state(self, most: int | None = None) -> State:
        """Return who leads, and the last and the next slot of each entry, as far as this scheduler knows.

        Of the first ``most`` entries alone, if it is given.
        """
        return self._candidate.state(most)

    def stop(self) -> None:
        """Let run() end when the call to the store that is under way has returned."""
        self._stopping.set()

    async def run(self) -> None:
        """Take turns until stopped, then resign; what the store raises is logged, and tried again."""
        loop = asyncio.get_running_loop()
        # One thread, so that one connection to the database.
        with_thread = ThreadPoolExecutor(1, thread_name_prefix="vtasks-scheduler")
        try:
            while not self._stopping.is_set():
                pause = await loop.run_in_executor(with_thread, self._candidate.turn)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._stopping.wait()
        finally:
            await loop.run_in_executor(with_thread, self._candidate.resign)
            with_thread.shutdown(wait=False)
