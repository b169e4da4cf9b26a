"""What signals mean to a supervisor."""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vtasks_supervisor.supervisor import Supervisor

logger = logging.getLogger(__name__)


@contextmanager
def handled(supervisor: Supervisor) -> Iterator[None]:
    """Let signals reach a supervisor, on the running loop, inside the ``with`` block.

    TERM drains, however often it comes; so does INT, and a second one stops at once, as QUIT does. TSTP pauses, CONT
    resumes, HUP replaces one child after the other, USR1 logs the state of all, USR2 their stacks.
    """
    loop = asyncio.get_running_loop()
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
    numbers = {getattr(signal, name): meaning for name, meaning in meanings.items() if hasattr(signal, name)}
    for number, meaning in numbers.items():
        loop.add_signal_handler(number, meaning)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _log_states(supervisor: Supervisor) -> None:
    for child in supervisor.states:
        logger.warning(
            "%s: %s%s, pid %s, incarnation %d, up %.0f s, last heard of %.1f s ago, %s",
            child.name, child.state, ", degraded" if child.degraded else "", child.pid, child.incarnation, child.up,
            child.silent, dict(child.vitals),
        )  # fmt: skip
