"""Who waits for a core, and who for anything else."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from django_vtasks.worker.hunger import Hunger
from tests.integration.probes import eventually

PATIENCE = 10.0


@pytest.fixture
def watching():
    made = Hunger()
    yield made
    made.close()


@pytest.mark.skipif(sys.platform != "linux", reason="no other system tells")
def test_a_thread_that_computes_on_a_contested_core_is_hungry_and_one_that_waits_is_not(contested_core):
    end = threading.Event()

    def compute():
        while not end.is_set():
            pass

    def hunger_of(function):
        watching, is_there = Hunger(), threading.Event()

        def begin():
            is_there.set()
            function()

        thread = threading.Thread(target=begin)
        thread.start()
        assert is_there.wait(PATIENCE)
        watching.watch(thread.native_id)
        before, until = watching.seconds(), time.monotonic() + 0.5
        while time.monotonic() < until and watching.seconds() - before < 0.1:
            time.sleep(0.01)
        hungry = watching.seconds() - before
        watching.close()
        return hungry, thread

    waiting, waiter = hunger_of(end.wait)
    computing, computer = hunger_of(compute)
    end.set()
    waiter.join(PATIENCE)
    computer.join(PATIENCE)

    assert computing >= 0.1
    assert waiting < computing / 2


def test_a_thread_that_has_ended_and_a_system_that_does_not_tell_count_for_nothing(watching, monkeypatch):
    ended = threading.Thread(target=int)
    ended.start()
    ended.join(PATIENCE)
    eventually(lambda: is_gone(ended), "the kernel has ended it too")
    watching.watch(ended.native_id)
    assert watching.seconds() == 0

    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    watching.watch(thread.native_id)
    end.set()
    thread.join(PATIENCE)
    eventually(lambda: is_gone(thread), "the kernel has ended it too")
    assert watching.seconds() == 0

    monkeypatch.setattr(os, "open", raising(FileNotFoundError))
    watching.watch(threading.get_native_id())
    assert watching.seconds() == 0


def test_nothing_stays_open(watching):
    watching.watch(threading.get_native_id())
    files = list(watching._files)
    watching.close()

    for file in files:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(file)


def is_gone(thread):
    """Tell whether the kernel knows a thread no more, which is a little later than Python does not."""
    return not Path(f"/proc/self/task/{thread.native_id}").exists()


def raising(error):
    def function(*args):
        raise error

    return function
