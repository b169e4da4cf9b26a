"""The demo, run as a user runs it."""

import contextlib
import fcntl
import http.cookiejar
import os
import pty
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "demo" / "run.py"
PATIENCE = 100
CHECKS = 8
LOGIN = "demo"
CHANGE_LISTS = [
    "library/count",
    "library/mail",
    "library/report",
    "library/run",
    "vtasks/taskrow",
    "vtasks/failedrow",
]


class Demo:
    """A running demo whose lines can be awaited."""

    def __init__(self, directory, *arguments):
        self.lines = []
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            [sys.executable, RUN, *arguments],
            env=os.environ | {"DEMO_DIR": str(directory)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self._output = self.process.stdout
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text):
        while not any(text in line for line in self.lines):
            line = self._queue.get(timeout=PATIENCE)
            assert line is not None, f"It ended without {text!r}:\n{self.output}"
            self.lines.append(line)

    def end(self, number):
        self.process.send_signal(number)
        return self.exit_code()

    def exit_code(self):
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        while (line := self._queue.get()) is not None:
            self.lines.append(line)
        return code

    def close(self):
        if self.process.poll() is None:
            self.end(signal.SIGTERM)
        self._output.close()

    @property
    def output(self):
        return "".join(self.lines)

    def _read(self):
        for line in self._output:
            self._queue.put(line)
        self._queue.put(None)


class Browser:
    """Keeps cookies and knows Django's forms."""

    def __init__(self, root):
        self._root = root
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(cookies)

    def get(self, path):
        with self._opener.open(self._root + path, timeout=PATIENCE) as answer:
            return answer.read().decode()

    def submit(self, page, target, **fields):
        token = found(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.get(page))
        data = urllib.parse.urlencode({"csrfmiddlewaretoken": token, **fields}).encode()
        with self._opener.open(self._root + target, data, timeout=PATIENCE) as answer:
            return answer.read().decode()


@pytest.fixture
def start(tmp_path):
    with contextlib.ExitStack() as stack:

        def start(*arguments):
            demo = Demo(tmp_path, *arguments)
            stack.callback(demo.close)
            return demo

        yield start


def found(pattern, text):
    match = re.search(pattern, text, re.MULTILINE)
    assert match is not None, text
    return match[1]


def nobody_is_left(directory):
    """Every process of a demo holds its lock."""
    with (directory / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def test_it_ends_by_itself_with_a_summary_and_everything_in_order(start, tmp_path):
    demo = start()

    assert demo.exit_code() == 0, demo.output
    assert demo.output.count("\n  ok ") == CHECKS
    assert "WRONG" not in demo.output
    assert re.search(r"^  all together +455 +7$", demo.output, re.MULTILINE)
    assert "3 × count_word: library.texts.NoSuchText: The reading room has no text 'lost-manuscript'." in demo.output
    assert "Duplicates refused: 49 (19 × write_index, 30 × send_digest)" in demo.output
    assert re.search(r"^Speed: \d+ tasks/s", demo.output, re.MULTILINE)
    assert f"Mails    {tmp_path / 'mail'}  (240 in " in demo.output
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", demo.output), "control characters where there is no terminal"
    assert nobody_is_left(tmp_path)


def test_on_a_terminal_the_progress_is_one_line_that_changes(tmp_path):
    controller, terminal = pty.openpty()
    environment = os.environ | {"DEMO_DIR": str(tmp_path), "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen([sys.executable, RUN], env=environment, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    output = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end of a terminal is closed
        while part := os.read(controller, 4096):
            output += part
    os.close(controller)

    assert process.wait(PATIENCE) == 0, output.decode()
    bars = re.findall(r"\r(\[[#.]+\]  [^\r]*?)\x1b\[K", output.decode())
    assert bars[-1].startswith("[####")
    assert "." not in bars[-1]
    assert "462 of 462 ended" in bars[-1]
    assert max(map(len, bars)) < 80
    assert len(set(bars)) == len(bars)


def test_what_is_missing_at_the_deadline_is_named_and_fails(start, tmp_path):
    demo = start("--deadline", "0.01")

    assert demo.exit_code() == 1
    assert re.search(r"^Not done within 0.01 s: \d+ tasks are left.$", demo.output, re.MULTILINE)
    assert re.search(r"WRONG  Every task ended, and none ran twice: missing are \d+ × ", demo.output)
    assert nobody_is_left(tmp_path)


def test_an_interrupt_leaves_no_process_behind(start, tmp_path):
    demo = start()
    demo.wait_for("Worker: process")

    assert demo.end(signal.SIGINT) == 128 + signal.SIGINT
    assert nobody_is_left(tmp_path)


def test_served_it_shows_results_waiting_and_failed_tasks_until_it_is_told_to_stop(start, tmp_path):
    demo = start("--serve")
    demo.wait_for("Ctrl-C")
    root = found(r"^Page +(http://\S+/)$", demo.output)
    assert f"Admin  {root}admin/  login demo, password demo" in demo.output
    browser = Browser(root)

    assert "Enqueue a mixed bunch" in browser.get("")
    browser.submit("admin/login/", "admin/login/?next=/admin/", username=LOGIN, password=LOGIN)
    assert "Log out" in browser.get("admin/")
    assert re.search(r"\d+ tasks enqueued, \d+ duplicates refused", browser.submit("", "more"))
    for change_list in CHANGE_LISTS:
        assert "to view" in browser.get(f"admin/{change_list}/")

    manage(tmp_path, "shell", "-v0", "--command", FOR_TOMORROW)
    page = browser.get("admin/vtasks/taskrow/?state__exact=2")
    assert "library.tasks.send_reminder" in page
    assert "late.reader@example.com" in page

    failed = until(lambda: re.search(r"failedrow/(\d+)/change/[^>]*>library.tasks.slam_the_door", failures(browser)))
    page = browser.get(f"admin/vtasks/failedrow/{failed[1]}/change/")
    assert "SystemExit" in page
    assert "sys.exit(&quot;Slam!&quot;)" in page

    assert demo.end(signal.SIGTERM) == 0, demo.output
    assert nobody_is_left(tmp_path)


def test_two_of_them_do_not_work_in_one_directory(start):
    first = start()
    first.wait_for("Worker: process")

    second = start()

    assert second.exit_code() == 1
    assert f"as the processes {first.process.pid}" in second.output


FOR_TOMORROW = """
from datetime import timedelta
from library.tasks import send_reminder
send_reminder.using(run_after=timedelta(days=1)).enqueue("late.reader@example.com")
"""


def manage(directory, *arguments):
    environment = os.environ | {"DEMO_DIR": str(directory)}
    subprocess.run(
        [sys.executable, RUN.with_name("manage.py"), *arguments], env=environment, check=True, timeout=PATIENCE
    )


def failures(browser):
    return browser.get("admin/vtasks/failedrow/")


def until(look):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if seen := look():
            return seen
    raise AssertionError("It did not come in time.")
