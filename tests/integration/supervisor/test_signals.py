"""What a tree of processes does when signals come, from whomever and to whomever."""

import os
import signal

import psutil
import pytest

from tests.integration.probes import eventually

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="asks /proc, and forks")

WORKERS = [{"name": name} for name in "abc"]


def test_a_sigterm_to_every_process_at_once_drains_the_tree(start):
    tree = start(*WORKERS)
    tree.until("TreeReady")
    tree.send_to_all(signal.SIGTERM)

    assert tree.exit_code() == 0
    assert [event["exit"]["cause"] for event in tree.such("ChildExited")] == ["PLANNED"] * 3
    eventually(lambda: not tree.pids, "an empty session")


def test_a_sigterm_to_the_fork_server_alone_changes_nothing(start):
    tree = start(*WORKERS)
    tree.until("TreeReady")
    tree.fork_server.terminate()
    assert tree.ask("a", "hello") == "hello"
    tree.tell("b", "die", 1)
    tree.ready("b", 2)

    assert len(tree.such("ChildExited")) == 1
    assert tree.stop() == 0


def test_the_end_of_the_fork_server_is_not_the_end_of_its_children(start):
    tree = start(*WORKERS)
    tree.until("TreeReady")
    dead = tree.fork_server.pid
    os.kill(dead, signal.SIGKILL)
    eventually(lambda: dead not in tree.pids, "the death of the fork server")
    assert tree.ask("a", "hello") == "hello"
    tree.tell("a", "die", 3)
    tree.tell("b", "signal_itself", signal.SIGSEGV)

    assert tree.exit_of("a")["code"] == 3
    assert tree.exit_of("b")["code"] == -signal.SIGSEGV
    tree.ready("a", 2)
    tree.ready("b", 2)
    assert tree.stop() == 0
    assert tree.exit_of("c")["cause"] == "PLANNED"


def test_the_end_of_the_supervisor_is_the_end_of_its_children_whatever_they_do(start):
    tree = start(*WORKERS, {"name": "idle"})
    tree.until("TreeReady")
    for name, trouble in {"a": "block", "b": "spin", "c": "leave_a_thread"}.items():
        tree.tell(name, trouble)
        tree.until("ChildSaid", name=name)
    children = {tree.ready(name) for name in ("a", "b", "c", "idle")}
    tree.process.kill()

    # A second, and what a busy machine adds.
    eventually(lambda: not children & tree.pids, "the end of the children", within=4.0)


@pytest.mark.parametrize("method", ["copy", "forkserver", "spawn"])
def test_the_end_of_the_supervisor_is_the_end_of_what_its_children_have_started(start, method):
    tree = start({"name": "idle"}, {"name": "blocked"}, method=method)
    tree.until("TreeReady")
    left = {tree.ask(name, trouble) for name in ("idle", "blocked") for trouble in ("leave_a_fork", "leave_a_program")}
    assert left <= tree.pids
    tree.tell("blocked", "block")
    tree.until("ChildSaid", name="blocked", message=["about to", "block"])
    tree.process.kill()

    eventually(lambda: not left & tree.pids, "the end of what they have started", within=4.0)
    eventually(lambda: not tree.pids, "an empty session")


def test_a_sigterm_while_the_fork_server_imports_ends_everything_in_order(start):
    tree = start(*WORKERS, preload=["tests.integration.supervisor.slow_preload"])
    tree.is_waiting()
    tree.send_to_all(signal.SIGTERM)
    tree.until("TreeStopping")
    tree.go()

    assert tree.exit_code() == 0
    assert not tree.such("ChildReady")
    eventually(lambda: not tree.pids, "an empty session")


def test_a_sigterm_while_a_child_sets_itself_up_is_obeyed_afterwards(start):
    tree = start({"name": "a", "waits": True})
    tree.is_waiting()
    tree.send_to_all(signal.SIGTERM)
    tree.until("TreeStopping")
    tree.go()

    assert tree.exit_code() == 0
    assert tree.exit_of("a")["cause"] == "PLANNED"


def test_repeated_sigterms_hurry_nobody(start):
    tree = start({"name": "a", "make": "Patient"})
    tree.ready("a")
    for _ in range(5):
        tree.process.send_signal(signal.SIGTERM)
        tree.until("ChildSaid")  # that it stops
    tree.go()

    assert tree.exit_code() == 0
    assert tree.such("ChildSaid", message=["stopped", False])
    assert len(tree.such("TreeStopping")) == 1


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGQUIT,)], ids=["INT-INT", "QUIT"])
def test_a_second_sigint_and_any_sigquit_hurry_everybody(start, numbers):
    tree = start({"name": "a", "make": "Patient"})
    tree.ready("a")
    for number in numbers:
        tree.process.send_signal(number)
        tree.until("TreeStopping")

    assert tree.exit_code() == 0
    assert tree.such("ChildSaid", message=["stopped", True])


def test_a_sighup_replaces_one_child_after_the_other(start):
    tree = start(*WORKERS)
    tree.until("TreeReady")
    tree.process.send_signal(signal.SIGHUP)
    for name in "abc":
        tree.ready(name, 2)
        assert tree.exit_of(name)["cause"] == "PLANNED"

    kinds = [(event["event"], event["name"]) for event in tree.events if event.get("incarnation") in {1, 2}]
    assert [kind for kind in kinds if kind[0] in {"ChildReady", "ChildExited"}][3:] == [
        ("ChildReady", "a"), ("ChildExited", "a"), ("ChildReady", "b"), ("ChildExited", "b"),
        ("ChildReady", "c"), ("ChildExited", "c"),
    ]  # fmt: skip


def test_sigusr1_logs_the_state_of_all_and_sigusr2_their_stacks(start):
    tree = start({"name": "a", "dump_grace": 0.2})
    pid = tree.ready("a")
    tree.process.send_signal(signal.SIGUSR1)
    tree.process.send_signal(signal.SIGUSR2)

    eventually(lambda: f"a: ready, pid {pid}, incarnation 1" in tree.log, "the state in the log")
    eventually(lambda: "Stacks of a:\n" in tree.log and "run_until_complete" in tree.log, "the stacks in the log")
    assert psutil.pid_exists(pid)
