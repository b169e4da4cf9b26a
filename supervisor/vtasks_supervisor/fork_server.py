"""A fork server that is a copy of this process, instead of a fresh Python that imports everything once more."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterable
from multiprocessing import connection, forkserver, util
from pathlib import Path
from typing import Any, NoReturn

from setproctitle import setproctitle

from vtasks_supervisor import preload

KNOWN = (3, 12) <= sys.version_info < (3, 14)
"""Whether this Python keeps its fork server where we put ours: private attributes of multiprocessing.

From 3.14 on children must prove who they are to it; there it starts in the usual way.
"""


def copy_this_process(modules: Iterable[str]) -> bool:
    """Become the original of a fork server; False when that is not safe here, and nothing has happened.

    Only for a process with one thread and no event loop, that has opened nothing which must not be shared.
    """
    server: Any = forkserver._forkserver  # noqa: SLF001 - there is no other way in
    if not KNOWN or sys.platform != "linux" or server._forkserver_pid is not None or _has_loop():  # noqa: SLF001
        return False
    try:
        if preload.share(modules):
            preload.problem = ""  # the usual fork server finds out for itself
            return False
        server._forkserver_address, server._forkserver_alive_fd, server._forkserver_pid = _fork()  # noqa: SLF001
    finally:
        preload.loaded = False
        gc.enable()
    return True


def kill() -> None:
    """End the fork server there is; its children live on."""
    server: Any = forkserver._forkserver  # noqa: SLF001 - there is no other way in
    if (pid := server._forkserver_pid) is not None:  # noqa: SLF001
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def forget() -> None:
    """Let the next child have a new fork server.

    The one there is ends when its last child has ended, and tells of their ends until then.
    """
    server: Any = forkserver._forkserver  # noqa: SLF001 - there is no other way in
    if server._forkserver_pid is not None:  # noqa: SLF001
        os.close(server._forkserver_alive_fd)  # noqa: SLF001
        server._forkserver_address = server._forkserver_alive_fd = server._forkserver_pid = None  # noqa: SLF001


def _has_loop() -> bool:
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        return True
    return False


def _fork() -> tuple[str, int, int]:
    """Return the copy's address, the descriptor that keeps it alive, and its process id."""
    with socket.socket(socket.AF_UNIX) as listener:
        address: str = connection.arbitrary_address("AF_UNIX")  # type: ignore[attr-defined]
        listener.bind(address)
        if not util.is_abstract_socket_namespace(address):
            Path(address).chmod(0o600)
        listener.listen()
        alive, keep = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(keep)
            _serve(listener, alive)
        os.close(alive)
    return address, keep, pid


def _serve(listener: socket.socket, alive: int) -> NoReturn:
    """Do what multiprocessing's fork server does, until nobody needs it."""
    try:
        setproctitle("vtasks: fork server")
        preload.keep_exit_hooks()
        forkserver.main(listener.detach(), alive, [])
    finally:
        os._exit(0)
