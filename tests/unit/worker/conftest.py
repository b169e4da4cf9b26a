"""What tests of the worker share."""

import contextlib
import os
import subprocess
import sys

import pytest


@pytest.fixture
def one_core():
    """Keep this thread, and those that it starts, on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


@pytest.fixture
def contested_core(one_core):
    """Let four others that never rest compute on the same core."""
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            code = "print(flush=True)\nwhile True: pass"
            other = stack.enter_context(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE))
            stack.callback(other.kill)
            assert other.stdout
            other.stdout.readline()
        yield
