"""What a supervisor sees of a child, wherever the child runs."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from vtasks_supervisor.events import Exit
from vtasks_supervisor.spec import ChildSpec

type Listener = Callable[["Child", Any], None]
"""Called on the loop with each frame of the child, Ready included, and never after ``exited`` is done."""


class Child(Protocol):
    """One life of one spec; ``exited`` is done, whatever happens, once start() has been called."""

    spec: ChildSpec
    incarnation: int
    pid: int | None
    exited: "asyncio.Future[Exit]"

    async def start(self) -> None:
        """Begin; the child says Ready when it is. Raise SpecError when the recipe cannot be carried."""
        ...

    def send(self, frame: Any) -> bool:
        """Send a frame; False when the child is gone or too far behind."""
        ...

    def dump(self) -> None:
        """Let the child write its stacks, which are in the Exit afterwards."""
        ...

    def stacks(self) -> str:
        """Return the stacks that the child has written so far."""
        ...

    def kill(self) -> None:
        """End the child without its consent."""
        ...

    def memory(self) -> int | None:
        """Return the bytes that are the child's alone, or None when nobody knows."""
        ...
