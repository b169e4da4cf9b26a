"""What signals mean to a supervisor."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from vtasks_supervisor.supervisor import Supervisor

logger = logging.getLogger(__name__)

# How often one signal can wait to be obeyed: a second INT means more than the first, a third does not.
WAITING_AT_MOST = 2


@contextmanager
def handled(supervisor: Supervisor) -> Iterator[None]:
    """Let signals reach a supervisor, on the running loop, inside the ``with`` block.

    TERM drains, however often it comes; so does INT, and a second one stops at once, as QUIT does. TSTP pauses, CONT
    resumes, HUP replaces one child after the other, USR1 logs the state of all, USR2 their stacks.
    """
    meanings: dict[str, Callable[[], None]] = {
        "SIGTERM": supervisor.stop,
        "SIGINT": lambda: supervisor.stop(at_once=supervisor.is_stopping),
        "SIGQUIT": lambda: supervisor.stop(at_once=True),
        "SIGTSTP": supervisor.pause,
        "SIGCONT": supervisor.resume,
        "SIGHUP": lambda: supervisor.replace_all("told to by SIGHUP"),
        "SIGUSR1": lambda: _log_states(supervisor),
        "SIGUSR2": supervisor.dump,
    }
    with obeyed({getattr(signal, name): meaning for name, meaning in meanings.items() if hasattr(signal, name)}):
        yield


@contextmanager
def obeyed(meanings: Mapping[int, Callable[[], object]]) -> Iterator[None]:
    """Call what each signal means, on the running loop, inside the ``with`` block; then all mean what they did before.

    The loop's own ``add_signal_handler`` would not do: each signal that it reads from its pipe has it write to the same
    pipe, so that whoever sends signals without end keeps it from doing anything else.
    """
    loop = asyncio.get_running_loop()
    waiting: list[int] = []

    def note(number: int, frame: object) -> None:
        if waiting.count(number) < WAITING_AT_MOST:
            waiting.append(number)
            loop.call_soon_threadsafe(obey)

    def obey() -> None:
        meanings[waiting.pop(0)]()

    # A signal that comes right before the loop begins to wait for its sockets would not end that wait without this one.
    woken, waker = socket.socketpair()
    with woken, waker:
        woken.setblocking(False)  # noqa: FBT003 - the standard library's own parameter
        waker.setblocking(False)  # noqa: FBT003
        earlier = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        loop.add_reader(woken, partial(woken.recv, 4096))
        handlers = {number: signal.signal(number, note) for number in meanings}
        for number in meanings:
            signal.siginterrupt(number, False)  # noqa: FBT003
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler or signal.SIG_DFL)  # None: it was not set by Python
            loop.remove_reader(woken)
            signal.set_wakeup_fd(earlier)


def _log_states(supervisor: Supervisor) -> None:
    for child in supervisor.states:
        logger.warning(
            "%s: %s%s, pid %s, incarnation %d, up %.0f s, last heard of %.1f s ago, %s",
            child.name, child.state, ", degraded" if child.degraded else "", child.pid, child.incarnation, child.up,
            child.silent, dict(child.vitals),
        )  # fmt: skip
