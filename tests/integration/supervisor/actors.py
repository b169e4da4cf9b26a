"""Actors that get into every kind of trouble; the fork server imports this module, and so does each child."""

import asyncio
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

from vtasks_supervisor import preload
from vtasks_supervisor.actor import Actor

IMPORTED_BY = os.getpid()
"""The fork server, in the children that share what it has imported."""

GO = "TEST_GO"
"""The variable with the path of a file that lets those go on who wait for it; ``.waiting`` beside it says who waits."""


def wait_for_go():
    go = Path(os.environ[GO])
    go.with_suffix(".waiting").touch()
    while not go.exists():
        time.sleep(0.005)


class Worker(Actor):
    """Does what it is told by the name of a method, and says what comes of it."""

    async def on_start(self, context):
        self.context = context

    async def handle(self, message):
        name, *arguments = message
        self.context.say([name, getattr(self, name)(*arguments)])

    def hello(self):
        return "hello"

    def environ(self):
        return dict(os.environ)

    def imported_by(self):
        return IMPORTED_BY, preload.loaded

    # Trouble -------------------------------------------------------------------------------------------------

    def block(self):
        self.context.say(["about to", "block"])
        threading.Event().wait()

    def spin(self):
        self.context.say(["about to", "spin"])
        while True:
            pass

    def hold_gil(self):
        self.context.say(["about to", "hold_gil"])
        return sum(range(10**12))

    def die(self, code):
        os._exit(code)

    def signal_itself(self, number):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), number)

    def leave_a_thread(self):
        threading.Thread(target=threading.Event().wait, daemon=False).start()

    def leave_a_fork(self):
        if (pid := os.fork()) == 0:
            threading.Event().wait()
        return pid

    def leave_a_program(self):
        return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], close_fds=False).pid


class NeverBorn(Worker):
    """Dies before it is ready."""

    async def on_start(self, context):
        os._exit(3)


class Patient(Worker):
    """Drains until it may go on, or is hurried."""

    async def on_stop(self, timeout, hurry):
        self.context.say(["stopping", timeout])
        go = Path(os.environ[GO])
        while not go.exists() and not hurry.is_set():  # noqa: ASYNC110, ASYNC240 - it comes from another process
            await asyncio.sleep(0.005)
        self.context.say(["stopped", hurry.is_set()])
