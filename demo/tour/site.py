"""The demo that stays: the worker beside the page and the admin."""

import contextlib
import signal
import socket
import time

from django.conf import settings
from django.contrib.auth import get_user_model

from library.backend import backend
from tour.processes import LOOK_EVERY, Command, Processes
from tour.show import enqueue, start_worker

LOGIN = "demo"
WEB_PORT = 8000


def serve(processes: Processes) -> int:
    """Keep the worker and the web server running until a signal; return 0 when both ended as they should."""
    get_user_model().objects.create_superuser(LOGIN, password=LOGIN)
    port = _free_port()
    worker = start_worker(processes)
    web = processes.start(settings.VAR / "web.log", "runserver", "--noreload", f"127.0.0.1:{port}")
    enqueue()
    if _are_ready(worker, web, port):
        print(f"\nPage   http://127.0.0.1:{port}/")
        print(f"Admin  http://127.0.0.1:{port}/admin/  login {LOGIN}, password {LOGIN}")
        print("Ctrl-C ends the worker and the web server.")
    as_asked = _stand_by(worker, web)
    exit_codes = [worker.stop(), web.stop()]
    # runserver has no handler for SIGTERM.
    return 0 if as_asked and exit_codes in ([0, 0], [0, -signal.SIGTERM]) else 1


def _are_ready(worker: Command, web: Command, port: int) -> bool:
    """Wait for the worker's lease and the web server's port; return False when one of the two gives up."""
    while worker.exit_code is None and web.exit_code is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            if backend().broker.nodes():
                return True
        time.sleep(LOOK_EVERY)
    return False


def _stand_by(*commands: Command) -> bool:
    """Wait for a signal and return True, or False when a process ends by itself."""
    try:
        while all(command.exit_code is None for command in commands):
            time.sleep(LOOK_EVERY)
    except SystemExit:
        print("Stopping")
        return True
    for command in commands:
        if command.exit_code is not None:
            print(command.obituary())
    return False


def _free_port() -> int:
    for port in (WEB_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("the system has no free port")
