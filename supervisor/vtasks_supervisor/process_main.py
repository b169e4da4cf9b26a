"""The life of a child process, from its first line to os._exit()."""

import asyncio
import atexit
import contextlib
import faulthandler
import gc
import logging
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from setproctitle import setproctitle

from vtasks_supervisor import codec, preload
from vtasks_supervisor.channel import SocketChannel
from vtasks_supervisor.frames import Failed, Unsuitable
from vtasks_supervisor.luggage import Luggage
from vtasks_supervisor.runtime import FLUSH_TIMEOUT, Runtime

logger = logging.getLogger(__name__)

ORPHAN_LIFE = 0.8
"""Seconds after which a process whose supervisor is dead is gone, even when its loop is blocked."""
EXIT_HOOKS_TIMEOUT = 2.0
EXPENDABLE, MOST_EXPENDABLE = 200, 1000
"""Thousandths of the memory by which a child seems larger than it is to a kernel that must choose, and the most."""
ORPHANED = 75
"""The exit code of such a process: EX_TEMPFAIL."""


async def main(luggage: Luggage) -> None:
    """Run the actor and leave the process, whatever threads the actor has left behind."""
    code = 1
    preload.keep_exit_hooks_no_more()
    control = os.dup(luggage.control.fileno())  # the channel closes its own
    try:
        code = await _live(luggage, control)
    except BaseException as error:
        logger.critical("Actor %s ended", luggage.name, exc_info=error)
    finally:
        _run_exit_hooks()
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        _leave(control, code)


async def _live(luggage: Luggage, control: int) -> int:
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)  # what the tasks start and leave behind ends with this group
    _be_expendable()
    gc.enable()
    os.environ.update(luggage.environ)
    setproctitle(luggage.title or luggage.name)
    _watch_supervisor(control)
    luggage.stacks.setblocking(False)  # noqa: FBT003 - its only argument
    faulthandler.register(signal.SIGUSR2, file=luggage.stacks.fileno(), all_threads=True, chain=False)
    told_to_stop = asyncio.Event()
    _take_signals(told_to_stop.set)
    channel = await SocketChannel.open(luggage.control)
    if preload.problem:
        channel.send(Unsuitable(preload.problem))
        await channel.flush(FLUSH_TIMEOUT)
        return 0
    runtime = await _runtime(luggage, channel)
    if runtime is None:
        return 1
    leaving = asyncio.create_task(_leave_when(told_to_stop, runtime))
    try:
        return await runtime.run({"pid": os.getpid(), "shares": preload.loaded})
    finally:
        leaving.cancel()


def _be_expendable() -> None:
    """Let a kernel without memory end a child before its supervisor, which starts another and says what it died of."""
    with contextlib.suppress(OSError, ValueError):
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(int(score.read_text()) + EXPENDABLE, MOST_EXPENDABLE)))


def _run_exit_hooks() -> None:
    """Run what the project has registered with atexit, such as the last report of a monitor; not for ever."""
    hooks = threading.Thread(target=atexit._run_exitfuncs, name="vtasks-exit", daemon=True)  # noqa: SLF001
    hooks.start()
    hooks.join(EXIT_HOOKS_TIMEOUT)


async def _runtime(luggage: Luggage, channel: SocketChannel) -> Runtime | None:
    """Return the actor in its surroundings; tell the supervisor why there is none."""
    try:
        if luggage.setup is not None:
            luggage.setup()
        actor = codec.load_recipe(luggage.recipe)()
    except Exception as error:
        logger.exception("Actor %s cannot be made", luggage.name)
        channel.send(Failed(f"{type(error).__name__}: {error}", traceback.format_exc()))
        await channel.flush(FLUSH_TIMEOUT)
        return None
    return Runtime(
        actor,
        channel,
        name=luggage.name,
        incarnation=luggage.incarnation,
        recorder=luggage.recorder,
        liveness_timeout=luggage.liveness_timeout,
        stop_timeout=luggage.stop_timeout,
    )


async def _leave_when(told: asyncio.Event, runtime: Runtime) -> None:
    await told.wait()
    runtime.finish()


def _take_signals(stop: Callable[[], None]) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    # A terminal sends these to everybody; what they mean for an actor is the supervisor's to say.
    for number in preload.GUARDED - {signal.SIGTERM, signal.SIGUSR2}:
        signal.signal(number, _ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, preload.GUARDED)


def _ignore(number: int, frame: object) -> None:
    """Do nothing; unlike SIG_IGN, this is not inherited by the programs that the actor starts."""


def _watch_supervisor(control: int) -> None:
    """End the process when the supervisor is gone, even if the loop is blocked and does not notice."""

    def watch() -> None:
        _has_hung_up(control, None)
        time.sleep(ORPHAN_LIFE)
        _leave(control, ORPHANED)

    threading.Thread(target=watch, name="vtasks-orphan", daemon=True).start()


def _leave(control: int, code: int) -> NoReturn:
    """End the process; also what its tasks have started, when there is no supervisor any more who would do that."""
    if _has_hung_up(control, 0) and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(code)


def _has_hung_up(control: int, timeout: int | None) -> bool:
    """Tell whether the supervisor is gone, after so many milliseconds, or whenever it is."""
    hangup = select.poll()
    hangup.register(control, 0)
    return bool(hangup.poll(timeout))
