"""A child that is a process of its own, made by aiomultiprocess."""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
from typing import Any

import aiomultiprocess
import psutil
from aiomultiprocess.types import Unit

from vtasks_supervisor import codec, process_main
from vtasks_supervisor.channel import SocketChannel
from vtasks_supervisor.child import Child, Listener
from vtasks_supervisor.errors import ChannelClosed
from vtasks_supervisor.events import Cause, Exit
from vtasks_supervisor.frames import Beat, Failed, Leaving, Ready, Unsuitable
from vtasks_supervisor.launcher import Launcher, LoopFactory
from vtasks_supervisor.luggage import Luggage
from vtasks_supervisor.recorder import Recorder
from vtasks_supervisor.spec import ChildSpec

logger = logging.getLogger(__name__)

LAST_FRAMES = 0.2
"""Seconds for which a dead child's pipe is still read: a process that it left behind may hold it open."""
CODE_TRIES = 50
CODE_EVERY = 0.01
"""Seconds between two looks for an exit code, which may come later than the news of the death."""
LOST_CODE = 255
"""What multiprocessing says of the children of a fork server that is gone."""


class ActorProcess(aiomultiprocess.Process):  # type: ignore[misc]  # the library has no types
    """aiomultiprocess's process without its manager, which is another process, and ends at any SIGTERM."""

    def __init__(self, method: str, luggage: Luggage, loop_factory: LoopFactory | None) -> None:
        self.unit = Unit(
            target=process_main.main, args=(luggage,), kwargs={}, namespace=None, loop_initializer=loop_factory
        )
        context: Any = multiprocessing.get_context(method)
        self.aio_process = context.Process(target=ActorProcess.run_async, args=(self.unit,), name=luggage.name)

    @staticmethod
    def run_async(unit: Unit) -> None:
        """Run the unit's coroutine to its end, whatever other tasks of the loop do.

        SystemExit or KeyboardInterrupt in any task ends run_until_complete(); the task has it as its exception then,
        and the loop can go on.
        """
        loop = (unit.loop_initializer or asyncio.new_event_loop)()
        asyncio.set_event_loop(loop)
        main = loop.create_task(unit.target(*unit.args, **unit.kwargs))
        while not main.done():
            try:
                loop.run_until_complete(main)
            except (SystemExit, KeyboardInterrupt) as error:
                logger.warning("A task of the event loop raised %r, which does not end the process", error)

    def start(self) -> None:
        """Start; from then on nobody but us asks for the exit code.

        multiprocessing asks for all children's whenever it starts one, in a thread: of two who ask a fork server's
        child at once, one is told 255.
        """
        super().start()
        multiprocessing.process._children.discard(self.aio_process)  # type: ignore[attr-defined]  # noqa: SLF001


class ProcessChild(Child):
    """Runs the actor in a process; the kernel tells of its end."""

    def __init__(self, spec: ChildSpec, incarnation: int, listen: Listener, launcher: Launcher) -> None:
        self.spec = spec
        self.incarnation = incarnation
        self.pid: int | None = None
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[Exit] = self._loop.create_future()
        self._listen = listen
        self._launcher = launcher
        self._channel: SocketChannel | None = None
        self._stacks: socket.socket | None = None
        self._written = b""
        self._process: ActorProcess | None = None
        self._pidfd: int | None = None
        self._recorder: Recorder | None = None
        self._reading: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._last_words: Failed | Leaving | Unsuitable | None = None
        self._peak: int | None = None

    async def start(self) -> None:
        """Start the process and begin to listen."""
        try:
            codec.check_importable(self.spec.setup, self.spec.name)
            recipe = codec.dump_recipe(self.spec.make, self.spec.name)
            self._recorder = _recorder(self.spec)
            self._channel = await self._launch(recipe)
        except BaseException as error:
            self._end(Exit(cause=Cause.NOT_STARTED, error=f"{type(error).__name__}: {error}"))
            if isinstance(error, OSError | EOFError | TimeoutError):
                return  # the system's trouble: like a child that died at once
            raise
        self._reading = asyncio.create_task(self._read(self._channel))
        self._watching = asyncio.create_task(self._watch())

    async def _launch(self, recipe: bytes) -> SocketChannel:
        """Start the process; return our end of its pipe."""
        spec = self.spec
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            control, their_control = socket.socketpair()
            ours.callback(control.close)
            theirs.callback(their_control.close)
            self._stacks, their_stacks = socket.socketpair()
            theirs.callback(their_stacks.close)
            self._stacks.setblocking(False)  # noqa: FBT003 - its only argument
            luggage = Luggage(
                recipe, spec.setup, spec.name, self.incarnation, spec.title, dict(spec.environ),
                spec.stop_timeout, spec.liveness_timeout, their_control, their_stacks, self._recorder,
            )  # fmt: skip
            loop_factory = self._launcher.loop_factory
            process = await self._launcher.launch(lambda method: ActorProcess(method, luggage, loop_factory))
            self._process, self.pid = process, process.pid
            channel = await SocketChannel.open(control)
            ours.pop_all()
            return channel

    def send(self, frame: Any) -> bool:
        """Write a frame to the process."""
        return self._channel is not None and not self.exited.done() and self._channel.send(frame)

    def dump(self) -> None:
        """Send the signal at which faulthandler writes."""
        self._signal(signal.SIGUSR2)

    def stacks(self) -> str:
        """Return what faulthandler has written so far."""
        with contextlib.suppress(OSError):
            while self._stacks is not None and (data := self._stacks.recv(65536)):
                self._written += data
        return self._written.decode(errors="replace")

    def kill(self) -> None:
        """Send SIGKILL."""
        self._signal(signal.SIGKILL)

    def memory(self) -> int | None:
        """Return the process's USS, or None when the system does not tell."""
        if self.pid is None or self.exited.done():
            return None
        try:
            return int(psutil.Process(self.pid).memory_full_info().uss)
        except (psutil.Error, OSError, AttributeError):
            return None

    def _signal(self, number: signal.Signals) -> None:
        if self.exited.done() or self.pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)
            else:
                os.kill(self.pid, number)

    async def _read(self, channel: SocketChannel) -> None:
        with contextlib.suppress(ChannelClosed):
            while True:
                frame = await channel.receive()
                self._note(frame)
                self._listen(self, frame)

    def _note(self, frame: Any) -> None:
        if isinstance(frame, Failed | Leaving | Unsuitable):
            self._last_words = frame
        elif isinstance(frame, Beat):
            self._peak = frame.peak
        elif isinstance(frame, Ready) and self._launcher.method == "forkserver" and not frame.facts["shares"]:
            logger.warning(
                "Actor %s shares no memory with the others: the fork server has not preloaded", self.spec.name
            )
        if isinstance(frame, Unsuitable):
            self._launcher.fall_back(frame.reason)

    async def _watch(self) -> None:
        """Wait for the process's end, then gather what is left of it."""
        await self._gone()
        assert self._reading is not None
        assert self._channel is not None
        # All that the child wrote is here, but its pipe may be held open by a process that it left behind.
        await asyncio.wait({self._reading}, timeout=LAST_FRAMES)
        self._reading.cancel()
        self._channel.close()
        self._end(self._exit(await self._code()))

    def _exit(self, code: int | None) -> Exit:
        said = self._last_words
        failure = said if isinstance(said, Failed) else None
        causes = {Leaving: Cause.PLANNED, Unsuitable: Cause.UNSUITED}
        return Exit(
            cause=causes.get(type(said), Cause.CRASHED) if code == 0 else Cause.CRASHED,
            code=code,
            error=failure.error if failure else "",
            traceback=failure.traceback if failure else "",
            dump=self.stacks(),
            peak_memory=self._peak,
            notes=tuple(self._recorder.notes()) if self._recorder else None,
        )

    async def _gone(self) -> None:
        """Wait for the process's end: by a descriptor of the process where there is one, else by its sentinel."""
        assert self._process is not None
        assert self.pid is not None
        descriptor: int = self._process.aio_process.sentinel
        try:
            descriptor = self._pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        except (AttributeError, OSError):
            pass
        gone = self._loop.create_future()
        self._loop.add_reader(descriptor, lambda: None if gone.done() else gone.set_result(None))
        try:
            await gone
        finally:
            self._loop.remove_reader(descriptor)

    async def _code(self) -> int | None:
        """Return the exit code; None when the fork server took it along when it died."""
        assert self._process is not None
        tries = CODE_TRIES
        while (code := self._process.exitcode) is None and tries:
            tries -= 1
            await asyncio.sleep(CODE_EVERY)
        # The orphans of a fork server are ours, and we can ask.
        return _own_code(self._pidfd, code) if code in {None, LOST_CODE} else code

    def _end(self, exit_: Exit) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        if self._stacks is not None:
            self._stacks.close()
        if self._recorder is not None:
            self._recorder.close()
        if self.pid is not None:
            _kill_left_behind(self.pid)
        if not self.exited.done():
            self.exited.set_result(exit_)


def _recorder(spec: ChildSpec) -> Recorder | None:
    if spec.notes is None:
        return None
    try:
        return Recorder(*spec.notes)
    except OSError as error:
        logger.warning("Actor %s has no recorder: %s", spec.name, error)
        return None


def _own_code(pidfd: int | None, code: int | None) -> int | None:
    if pidfd is None:
        return code
    try:
        status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except (AttributeError, OSError):
        return code
    if status is None:
        return code
    return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status


def _kill_left_behind(group: int) -> None:
    """Kill what a dead child's tasks have started and not ended: it shares the child's process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
