"""What a fork server does before it forks: it blocks signals, imports what children share, and freezes it."""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import threading
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

# The imports to come take a second, in which a SIGTERM to the whole group would end the fork server.
GUARDED = {
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTSTP")
    if hasattr(signal, name)
}

VARIABLE = "VTASKS_SUPERVISOR_PRELOAD"
"""Tells the fork server, and nobody else, what to import and which PYTHONPATH to leave behind: JSON, as Orders."""

loaded = False
"""Whether this process is a fork server's child and shares what was imported."""
problem = ""
"""Why nothing should be forked from here."""

_clear_exit_hooks = atexit._clear  # noqa: SLF001 - what keep_exit_hooks() replaces

M_ARENA_MAX = -8
"""A parameter of glibc's mallopt()."""
ARENAS = 2


class Orders(TypedDict):
    """What a fork server is told."""

    modules: list[str]
    pythonpath: str | None


def _begin() -> None:
    if VARIABLE in os.environ:
        signal.pthread_sigmask(signal.SIG_BLOCK, GUARDED)


def finish() -> None:
    """Obey the orders, if this process has any: once this package is imported, which children share too."""
    if VARIABLE in os.environ:
        _obey(json.loads(os.environ.pop(VARIABLE)))


def _obey(orders: Orders) -> None:
    # It was set for this import only; what the tasks start shall find the user's own.
    os.environ.pop("PYTHONPATH", None)
    if orders["pythonpath"] is not None:
        os.environ["PYTHONPATH"] = orders["pythonpath"]
    share(orders["modules"])
    keep_exit_hooks()


def keep_exit_hooks() -> None:
    """Let children keep what imports have registered with atexit, which some versions of Python clear in each."""
    atexit._clear = lambda: None  # noqa: SLF001 - there is no other way


def keep_exit_hooks_no_more() -> None:
    """Let multiprocessing clear them in the processes that a child starts itself.

    A finalizer is not kept in the first place: the directory that it would delete belongs to all children.
    """
    atexit._clear = _clear_exit_hooks  # noqa: SLF001 - see above
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]  # noqa: SLF001 - has no getter
        finalizer.atexit = False


def share(modules: Iterable[str]) -> str:
    """Import modules and freeze all there is, for copies of this process; return why there should be none, or nothing.

    The garbage collector is off afterwards: it would write to what is shared.
    """
    global loaded, problem  # noqa: PLW0603 - read by the children, which begin as copies of this process
    gc.disable()
    for module in modules:
        try:
            importlib.import_module(module)
        except BaseException as error:  # noqa: BLE001 - a border: whatever it is, it must not end the fork server
            problem = f"{module} cannot be imported: {type(error).__name__}: {error}"
            break
    problem = problem or _danger()
    _share_an_arena()
    gc.collect()
    gc.freeze()
    loaded = True
    return problem


def _share_an_arena() -> None:
    """Let the children's threads allocate from few arenas: one for each thread is memory that none shares."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


def _danger() -> str:
    """Return what must not be forked, or nothing."""
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        return f"an import has started the thread {others[0]!r}"
    try:
        threads = len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return ""
    return f"an import has started {threads - 1} threads outside Python" if threads > 1 else ""


_begin()
