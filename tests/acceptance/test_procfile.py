"""The Procfile, started by honcho as Heroku would: release, then web and worker."""

import contextlib
import os
import queue
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.servers import free_port

ROOT = Path(__file__).parents[2]
MANAGE = ROOT / "demo" / "manage.py"
MARK = "TEST_PROCFILE"
PATIENCE = 60
KILL_WAIT = 5
"""Seconds that honcho gives its processes before it kills them."""

ENQUEUE = """
from library.tasks import send_letter
send_letter.enqueue("reader@example.com", "Hello", "from the Procfile")
"""


class Honcho:
    """A running ``honcho start`` whose descendants all carry a mark in their environment."""

    def __init__(self, environment, *processes):
        self.lines = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "honcho", "--no-colour", "start", *processes],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._mark = environment[MARK]
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self):
        while not self._queue.empty():
            self.lines.append(self._queue.get())
        return "".join(self.lines)

    def until(self, look):
        """Return what ``look`` sees as soon as it sees something; look again with each line, or ten times a second."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            if seen := look():
                return seen
            with contextlib.suppress(queue.Empty):
                self.lines.append(self._queue.get(timeout=0.1))
        raise AssertionError(self.output)

    def exit_code(self):
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def processes(self):
        """Return all that are alive and carry the mark, honcho included."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def close(self):
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.exit_code()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _is_ours(self, process):
        try:
            return process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:  # gone, or somebody else's
            return False

    def _read(self):
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line)


@pytest.fixture
def environment(tmp_path):
    """Give the demo a directory, a port and a database of its own, and the time that honcho leaves it."""
    own = {
        "DEMO_DIR": str(tmp_path),
        "PORT": str(free_port()),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "SPT_NOENV": "1",  # else a process's title takes the place of its environment in /proc
        "VTASKS_SHUTDOWN_TIMEOUT": "4",
        MARK: secrets.token_hex(8),
    }
    return os.environ | own


@pytest.fixture
def honcho(environment):
    with contextlib.ExitStack() as stack:

        def start(*processes):
            honcho = Honcho(environment, *processes)
            stack.callback(honcho.close)
            return honcho

        yield start


def test_release_web_and_worker_do_their_work_and_leave_nothing_behind(honcho, environment, tmp_path):
    release = honcho("release")
    assert release.exit_code() == 0, release.output

    running = honcho("web", "worker")
    assert "The reading room" in running.until(lambda: page(environment["PORT"]))
    manage(environment, "shell", "-v0", "--command", ENQUEUE)
    running.until(lambda: any("from the Procfile" in mail.read_text() for mail in tmp_path.glob("mail/*")))
    started = {int(pid) for pid in re.findall(r"(?:web|worker)\.1 started \(pid=(\d+)\)", running.output)}
    processes = running.processes()
    assert started <= {process.pid for process in processes}, "they carry the mark"
    assert len(started) == 2

    began = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    assert running.exit_code() == 128 + signal.SIGTERM, running.output
    psutil.wait_procs(processes, KILL_WAIT)
    assert running.processes() == [], running.output
    assert time.monotonic() - began < KILL_WAIT, running.output
    assert "SIGKILL" not in running.output
    assert "worker.1 stopped (rc=0)" in running.output


def page(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as answer:
            return answer.read().decode()
    except (ConnectionError, urllib.error.URLError):
        return None


def manage(environment, *arguments):
    subprocess.run([sys.executable, MANAGE, *arguments], env=environment, cwd=ROOT, check=True, timeout=PATIENCE)
