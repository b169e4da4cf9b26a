"""What the fork server finds dangerous, and the environment it is started in."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from vtasks_supervisor import fork_server, launcher, preload
from vtasks_supervisor.launcher import Launcher


@pytest.fixture
def no_proc(monkeypatch):
    monkeypatch.setattr(preload, "Path", lambda path: Path("/no") / path.lstrip("/"))


def test_a_python_thread_is_a_danger(monkeypatch):
    another = threading.Thread(name="an-agent")
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.main_thread(), another])

    assert preload._danger() == "an import has started the thread 'an-agent'"


def test_a_thread_outside_python_is_a_danger(monkeypatch, tmp_path):
    for thread in "123":
        (tmp_path / thread).touch()
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.main_thread()])
    monkeypatch.setattr(preload, "Path", lambda _: tmp_path)

    assert preload._danger() == "an import has started 2 threads outside Python"


@pytest.mark.usefixtures("no_proc")
def test_without_proc_only_python_s_threads_are_known(monkeypatch):
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.main_thread()])

    assert preload._danger() == ""


def test_a_process_that_is_no_fork_server_has_preloaded_nothing():
    assert not preload.loaded
    assert not preload.problem


def test_the_environment_is_what_it_was_when_a_child_is_started(monkeypatch):
    monkeypatch.setenv("THERE", "before")
    monkeypatch.delenv("NOT_THERE", raising=False)
    with launcher._environment({"THERE": "now", "NOT_THERE": "now"}):
        assert (os.environ["THERE"], os.environ["NOT_THERE"]) == ("now", "now")

    assert os.environ["THERE"] == "before"
    assert "NOT_THERE" not in os.environ


class Refused:
    """What the system does not let us start."""

    def __init__(self, error=None):
        self._error = error or EOFError("no")

    def start(self):
        raise self._error

    def kill(self):
        raise AssertionError("there is nothing to kill")


class Started(Refused):
    def start(self):
        pass


async def test_a_fork_server_that_never_worked_is_given_up(caplog):
    launcher = Launcher(method="forkserver")
    with pytest.raises(EOFError):
        await launcher.launch(lambda _: Refused())

    assert launcher.method == "spawn"
    assert caplog.text.count("forking is not safe: the fork server does not work: EOFError: no") == 1


async def test_a_fork_server_that_has_worked_is_not_to_blame_for_what_is_scarce(monkeypatch):
    monkeypatch.setattr(fork_server, "forget", lambda: pytest.fail("forgotten"))
    launcher = Launcher(method="forkserver")
    await launcher.launch(lambda _: Started())
    for _ in range(3):
        with pytest.raises(OSError, match="Too many open files"):
            await launcher.launch(lambda _: Refused(OSError(errno.EMFILE, "Too many open files")))

    assert launcher.method == "forkserver"


async def test_after_a_fork_server_that_has_worked_one_other_is_tried(monkeypatch):
    forgotten = []
    monkeypatch.setattr(fork_server, "forget", lambda: forgotten.append(1))
    launcher = Launcher(method="forkserver")
    for _ in range(2):
        await launcher.launch(lambda _: Started())
        with pytest.raises(FileNotFoundError):
            await launcher.launch(lambda _: Refused(FileNotFoundError(errno.ENOENT, "no socket")))
        assert launcher.method == "forkserver"
    with pytest.raises(EOFError):
        await launcher.launch(lambda _: Refused())

    assert (launcher.method, len(forgotten)) == ("spawn", 3)


async def test_what_has_waited_for_its_turn_is_made_for_the_method_that_then_is_in_use():
    launcher = Launcher(method="forkserver")
    methods = []

    def make(method):
        methods.append(method)
        return Refused()

    await asyncio.gather(launcher.launch(make), launcher.launch(make), return_exceptions=True)

    assert methods == ["forkserver", "spawn"]


async def test_what_found_no_thread_is_not_started_when_there_is_one_again():
    launcher = Launcher(method="forkserver")
    begun = []

    class Late(Started):
        def start(self):
            begun.append(self)

    def refuse(_):
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="can't start new thread"):
            await launcher.launch(lambda _: Late())
    await launcher.launch(lambda _: Started())

    assert begun == []
