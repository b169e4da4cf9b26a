"""A child that is an asyncio task of this process."""

import asyncio
import logging
import traceback
from contextvars import ContextVar
from typing import Any

from vtasks_supervisor.channel import LocalChannel
from vtasks_supervisor.child import Child, Listener
from vtasks_supervisor.errors import ChannelClosed
from vtasks_supervisor.events import Cause, Exit
from vtasks_supervisor.frames import Failed, Leaving
from vtasks_supervisor.recorder import Recorder
from vtasks_supervisor.runtime import Runtime
from vtasks_supervisor.spec import ChildSpec

logger = logging.getLogger(__name__)

KILLED = -9

_CHILD: "ContextVar[TaskChild]" = ContextVar("vtasks_supervisor_child")
"""Whose task this is: what an actor starts inherits it."""


class TaskChild(Child):
    """Runs the actor on the supervisor's own loop: no isolation, no cost."""

    def __init__(self, spec: ChildSpec, incarnation: int, listen: Listener) -> None:
        self.spec = spec
        self.incarnation = incarnation
        self.pid: int | None = None
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._listen = listen
        self._recorder = Recorder(*spec.notes) if spec.notes else None
        self._ours, self._theirs = LocalChannel.pair()
        self._failure: Failed | None = None
        self._left = False
        self._dump = ""
        self._task: asyncio.Task[int] | None = None

    async def start(self) -> None:
        """Make the task."""
        reading = asyncio.create_task(self._read())
        self._task = asyncio.create_task(self._run(), name=self.spec.title or self.spec.name)
        self._task.add_done_callback(lambda _: asyncio.ensure_future(self._finish(reading)))

    def send(self, frame: Any) -> bool:
        """Put a frame into the actor's queue."""
        return not self.exited.done() and self._ours.send(frame)

    def dump(self) -> None:
        """Note where the task is, and those that it has started."""
        ours = (task for task in asyncio.all_tasks() if task.get_context().get(_CHILD) is self)
        self._dump = "\n".join(map(_stack, ours))

    def stacks(self) -> str:
        """Return where the task was."""
        return self._dump

    def kill(self) -> None:
        """Cancel the task."""
        if self._task is not None:
            self._task.cancel()

    def memory(self) -> int | None:
        """Return None: memory belongs to processes."""
        return None

    async def _run(self) -> int:
        _CHILD.set(self)
        try:
            actor = self.spec.make()
        except Exception as error:  # noqa: BLE001 - a border: the recipe is the user's
            self._theirs.send(Failed(f"{type(error).__name__}: {error}", traceback.format_exc()))
            return 1
        runtime = Runtime(
            actor,
            self._theirs,
            name=self.spec.name,
            incarnation=self.incarnation,
            recorder=self._recorder,
            liveness_timeout=self.spec.liveness_timeout,
            stop_timeout=self.spec.stop_timeout,
        )
        return await runtime.run({})

    async def _read(self) -> None:
        try:
            while True:
                frame = await self._ours.receive()
                if isinstance(frame, Failed):
                    self._failure = frame
                self._left = self._left or isinstance(frame, Leaving)
                self._listen(self, frame)
        except ChannelClosed:
            pass

    async def _finish(self, reading: "asyncio.Task[None]") -> None:
        self._theirs.close()
        await asyncio.wait({reading})  # a loop that ends has cancelled it
        assert self._task is not None
        code = KILLED if self._task.cancelled() or self._task.exception() is not None else self._task.result()
        notes = tuple(self._recorder.notes()) if self._recorder else None
        failure = self._failure
        self.exited.set_result(
            Exit(
                cause=Cause.PLANNED if self._left and code == 0 else Cause.CRASHED,
                code=code,
                error=failure.error if failure else "",
                traceback=failure.traceback if failure else "",
                dump=self._dump,
                notes=notes,
            )
        )
        if self._recorder is not None:
            self._recorder.close()


def _stack(task: "asyncio.Task[Any]") -> str:
    """Return which coroutine of a task waits for which."""
    lines = [f"Task {task.get_name()!r} (most recent call last):\n"]
    awaitable: Any = task.get_coro()
    while (frame := getattr(awaitable, "cr_frame", None)) is not None:
        lines += traceback.format_list(traceback.extract_stack(frame, limit=1))
        awaitable = awaitable.cr_await
    return "".join(lines)
