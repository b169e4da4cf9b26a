"""What tests of the worker share."""

import contextlib
import os
import subprocess
import sys

import pytest


@pytest.fixture
def contested_core():
    """Keep this thread, and those that it starts, on one core with four others that never rest."""
    cores = os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        os.sched_setaffinity(0, {min(cores)})
        stack.callback(os.sched_setaffinity, 0, cores)
        for _ in range(4):
            code = "print(flush=True)\nwhile True: pass"
            other = stack.enter_context(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE))
            stack.callback(other.kill)
            assert other.stdout
            other.stdout.readline()
        yield
