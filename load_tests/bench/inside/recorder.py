"""Note which task began when, in a file for each process. What every contender's tasks call; standard library only."""

import array
import atexit
import os
import threading
import time
from collections import deque
from itertools import chain

EVERY, LONGEST = 0.05, 3.2
"""Seconds between two writes; twice as many whenever there was nothing to write, so that an idle worker is idle."""

_directory = os.environ.get("BENCH_RECORDS", "")
_clock = time.monotonic  # one clock for all processes of a machine
_runs: deque[tuple[float, float]] = deque()
_note = _runs.append
_lock = threading.Lock()
_file: int | None = None


def record(number: int) -> None:
    """Note that a task has begun: first thing in each task."""
    _note((number, _clock()))
    if _file is None:
        _open()


def flush() -> bool:
    """Write what was noted, for processes that end without saying so; return whether there was anything."""
    with _lock:
        runs = [_runs.popleft() for _ in range(len(_runs))]
        if runs and _file is not None:
            os.write(_file, array.array("d", chain.from_iterable(runs)).tobytes())
        return bool(runs)


def _open() -> None:
    global _file
    with _lock:
        if _file is not None:
            return
        path = os.path.join(_directory, f"{os.getpid()}.runs")
        _file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    threading.Thread(target=_write_for_ever, name="bench-recorder", daemon=True).start()


def _write_for_ever() -> None:
    pause = EVERY
    while True:
        time.sleep(pause)
        pause = EVERY if flush() else min(2 * pause, LONGEST)


def _begin_anew() -> None:
    """Forget what the parent noted, which writes it itself."""
    global _file, _lock
    _file, _lock = None, threading.Lock()
    _runs.clear()


os.register_at_fork(after_in_child=_begin_anew)
atexit.register(flush)
