"""What children leave behind comes to this process, which buries it."""

import ctypes
import os
import sys
from collections.abc import Collection
from multiprocessing import forkserver, resource_tracker

PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Make this process the parent of orphans below it, where the system can."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(children: Collection[int]) -> None:
    """Bury dead orphans, but none of ``children``, whose exit codes others wait for."""
    known = {
        *children,
        getattr(forkserver._forkserver, "_forkserver_pid", None),  # noqa: SLF001 - has no getter
        getattr(resource_tracker._resource_tracker, "_pid", None),  # noqa: SLF001 - has no getter
    }
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if dead is None or dead.si_pid in known:
            return
        os.waitpid(dead.si_pid, os.WNOHANG)
