"""What an actor is, and what it may ask of its surroundings."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from vtasks_supervisor.recorder import Recorder


class Context(Protocol):
    """What a running actor knows of itself and may say."""

    @property
    def name(self) -> str:
        """Return the name of the actor's place in the tree."""
        ...

    @property
    def incarnation(self) -> int:
        """Return which child of its place this is, counted from 1."""
        ...

    @property
    def recorder(self) -> Recorder | None:
        """Return the memory that outlives the actor, if its spec asks for one and the system has it."""
        ...

    def say(self, message: object) -> None:
        """Send a message to the supervisor's hook; never blocks."""
        ...

    def retire(self, reason: str) -> None:
        """Ask to be replaced: the successor is ready before this actor is stopped."""
        ...

    def finish(self) -> None:
        """End normally, as if told to stop."""
        ...

    def fail(self, error: BaseException) -> None:
        """End as if handle() had raised this."""
        ...


class Actor[M]:
    """State that one loop owns and that messages of type M reach one at a time.

    An exception from on_start() or handle() ends the actor; its supervisor starts another. What a subclass does not
    define does nothing.
    """

    async def on_start(self, context: Context) -> None:
        """Prepare for messages; the actor is ready when this returns."""

    async def handle(self, message: M) -> None:
        """React to one message."""

    async def on_pause(self) -> None:
        """Take no new work until on_resume()."""

    async def on_resume(self) -> None:
        """Take new work again."""

    async def on_stop(self, timeout: float, hurry: asyncio.Event) -> None:
        """Finish what runs within ``timeout`` seconds, or at once when ``hurry`` is set; then let go of everything.

        Called after a failure too, in a hurry.
        """

    def vitals(self) -> Mapping[str, Any]:
        """Return facts for the next heartbeat; ``work`` counts what was done, for the spec's max_work."""
        return {}
