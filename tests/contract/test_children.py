"""The contract of a child, as a task and as a process; and what only processes promise."""

import os
import signal
from functools import partial

import psutil
import pytest
import uvloop

from tests.contract import actors
from tests.contract.child import ChildContract
from vtasks_supervisor import preload
from vtasks_supervisor.errors import SpecError
from vtasks_supervisor.events import Cause
from vtasks_supervisor.launcher import Launcher
from vtasks_supervisor.process_child import ProcessChild
from vtasks_supervisor.spec import Notes, Place
from vtasks_supervisor.task_child import TaskChild


class TestTask(ChildContract):
    def make_child(self, spec, incarnation, listen):
        return TaskChild(spec, incarnation, listen)

    def spec(self, make, **fields):
        return super().spec(make, place=Place.TASK, **fields)

    async def test_it_has_no_process_of_its_own(self, start):
        child = (await start()).child

        assert child.pid is None
        assert child.memory() is None


class ProcessContract(ChildContract):
    blocked = "blocked"
    launcher: Launcher

    def make_child(self, spec, incarnation, listen):
        return ProcessChild(spec, incarnation, listen, self.launcher)

    # How it begins -------------------------------------------------------------------------------------------

    async def test_it_is_a_process_with_memory_of_its_own(self, start):
        child = (await start()).child

        assert child.pid != os.getpid()
        assert child.memory() > 1_000_000

    async def test_nobody_knows_its_memory_where_the_system_does_not_tell(self, start, monkeypatch):
        child = (await start()).child
        monkeypatch.setattr(psutil, "PROCFS_PATH", "/no/proc")

        assert child.memory() is None

    async def test_it_is_set_up_before_its_recipe_is_read(self, start):
        watched = await start(partial(actors.Facts), setup=actors.set_up)
        watched.tell("setup")

        assert await watched.says() == [True]

    async def test_a_set_up_that_fails_is_told(self, start):
        watched = await start(setup=actors.fail_to_set_up, until_ready=False)
        exit_ = await watched.exit()

        assert exit_.cause is Cause.CRASHED
        assert exit_.error == "ValueError: no set-up"

    async def test_it_has_a_title_and_an_environment_and_nobody_else_s(self, start):
        watched = await start(actors.Facts, title="vtasks: someone", environ={"FROM_THE_SPEC": "yes"})
        watched.tell("title", "environment")
        title, environment = await watched.says(2)

        assert title == "vtasks: someone"
        assert environment.pop("FROM_THE_SPEC") == "yes"
        assert environment.get("PYTHONPATH") == os.environ.get("PYTHONPATH")
        assert "VTASKS_SUPERVISOR_PRELOAD" not in environment

    async def test_the_programs_it_starts_have_signals_as_any_other(self, start):
        watched = await start(actors.Facts)
        watched.tell("signals_of_a_program")
        (signals,) = await watched.says()

        ours = sum(1 << (number - 1) for number in preload.GUARDED)
        assert signals["SigBlk"] & ours == 0
        assert signals["SigIgn"] & ours == 0

    async def test_a_recipe_that_cannot_travel_is_refused(self, start):
        numbers = (number for number in range(3))
        with pytest.raises(SpecError, match="recipe of child 'someone' cannot be carried"):
            await start(lambda: numbers)

    async def test_a_recipe_that_carries_too_much_is_refused(self, start):
        cargo = os.urandom(300_000)
        with pytest.raises(SpecError, match=r"takes 30\d{4} bytes, more than 262144"):
            await start(lambda: cargo)

    async def test_a_set_up_that_cannot_be_imported_is_refused(self, start):
        with pytest.raises(SpecError, match="setup of child 'someone' must be importable"):
            await start(setup=lambda: None)

    async def test_one_that_was_refused_has_ended(self):
        child = self.make_child(self.spec(lambda: (number for number in range(3)), notes=Notes(1, 8)), 1, print)
        child.spec = self.spec(actors.Echo, setup=lambda: None)
        with pytest.raises(SpecError):
            await child.start()

        assert child.exited.result().cause is Cause.NOT_STARTED

    async def test_a_system_that_gives_no_descriptors_makes_it_end_like_one_that_died_at_once(self, start, monkeypatch):
        def refuse(*arguments):
            raise OSError(24, "Too many open files")

        monkeypatch.setattr("socket.socketpair", refuse)
        watched = await start(until_ready=False)

        exit_ = await watched.exit()
        assert exit_.cause is Cause.NOT_STARTED
        assert "Too many open files" in exit_.reason

    async def test_a_system_that_gives_no_threads_makes_it_end_like_one_that_died_at_once(self, start, monkeypatch):
        def refuse(thread):
            raise RuntimeError("can't start new thread")

        method = self.launcher.method
        monkeypatch.setattr("threading.Thread.start", refuse)
        watched = await start(until_ready=False)

        exit_ = await watched.exit()
        assert exit_.cause is Cause.NOT_STARTED
        assert "can't start new thread" in exit_.reason
        assert self.launcher.method == method

    # How it ends ---------------------------------------------------------------------------------------------

    async def test_an_exit_without_a_last_word_is_a_crash_whatever_its_code(self, start):
        watched = await start(actors.Leaving)
        watched.tell("os._exit")
        exit_ = await watched.exit()

        assert (exit_.cause, exit_.code) == (Cause.CRASHED, 0)

    async def test_a_signal_that_ends_it_is_told(self, start):
        watched = await start(actors.Leaving)
        watched.tell(signal.SIGSEGV)
        exit_ = await watched.exit()

        assert (exit_.cause, exit_.status) == (Cause.CRASHED, "signal SIGSEGV")

    async def test_a_sigterm_to_it_alone_lets_it_finish(self, start):
        watched = await start(stop_timeout=7.5)
        for _ in range(3):
            os.kill(watched.child.pid, signal.SIGTERM)
        exit_ = await watched.exit()

        assert exit_.cause is Cause.PLANNED
        assert await watched.says() == [("stopping", 7.5), "stopped"]

    async def test_what_a_terminal_sends_to_everybody_is_the_supervisor_s_business(self, start):
        watched = await start()
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGUSR1):
            os.kill(watched.child.pid, number)
        watched.tell("still here")

        assert await watched.says() == ["still here"]

    async def test_the_most_memory_it_held_is_told(self, start):
        watched = await start(liveness_timeout=0.3)
        await watched.hears(lambda frame: getattr(frame, "peak", None))
        watched.child.kill()

        assert (await watched.exit()).peak_memory > 5_000_000

    async def test_its_end_is_seen_without_a_descriptor_for_it(self, start, monkeypatch):
        monkeypatch.delattr(os, "pidfd_open")
        watched = await start(actors.Leaving)
        watched.tell(signal.SIGKILL)

        assert (await watched.exit()).code == -9

    # What is said --------------------------------------------------------------------------------------------

    async def test_a_message_that_cannot_be_read_costs_that_message_only(self, start, caplog):
        watched = await start(actors.Riddling)
        watched.tell("after")

        assert await watched.says() == ["after"]
        assert "A frame cannot be read and is dropped" in caplog.text
        watched.tell(actors.Inexplicable(), "and back")
        assert await watched.says(2) == ["after", "and back"]

    async def test_a_message_that_is_too_large_is_not_sent(self, start, monkeypatch):
        monkeypatch.setattr("vtasks_supervisor.channel.MAX_FRAME", 1000)
        watched = await start()

        assert not watched.tell("x" * 2000)
        watched.tell("small")
        assert await watched.says() == ["small"]


@pytest.mark.skipif("sys.platform != 'linux'", reason="forking is safe on Linux only")
class TestForkedProcess(ProcessContract):
    launcher = Launcher(["tests.contract.actors"], method="forkserver")

    async def test_nobody_but_us_asks_for_its_exit_code(self, start):
        import multiprocessing

        await start()

        assert multiprocessing.active_children() == []


class TestSpawnedProcess(ProcessContract):
    launcher = Launcher(method="spawn")

    async def test_its_loop_may_be_another(self, start):
        self.launcher = Launcher(method="spawn", loop_factory=uvloop.new_event_loop)
        watched = await start(actors.Facts)
        watched.tell("loop")

        assert await watched.says() == ["uvloop"]
