"""Children that hang, crash, or leave something behind."""

import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.integration.probes import eventually

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="asks /proc, and forks")


def test_a_child_in_which_nothing_runs_writes_its_stacks_is_killed_and_started_again(start):
    tree = start({"name": "a", "liveness_timeout": 1.0, "dump_grace": 0.5})
    tree.ready("a")
    tree.tell("a", "hold_gil")
    exit_ = tree.exit_of("a")

    assert tree.until("ChildHung")["silent"] > 1.0
    assert (exit_["cause"], exit_["code"]) == ("HUNG", -signal.SIGKILL)
    assert "in hold_gil" in exit_["dump"]
    assert exit_["peak_memory"] > 5_000_000
    tree.ready("a", 2)


def test_a_thread_that_never_ends_does_not_keep_a_process_from_its_end(start):
    tree = start({"name": "a"})
    tree.ready("a")
    tree.ask("a", "leave_a_thread")

    assert tree.stop() == 0
    assert tree.exit_of("a")["cause"] == "PLANNED"


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_a_child_leaves_behind_neither_hides_its_end_nor_outlives_it(start, method):
    tree = start({"name": "a"}, method=method)
    tree.ready("a")
    left = {tree.ask("a", "leave_a_fork"), tree.ask("a", "leave_a_program")}
    assert left <= tree.pids
    tree.tell("a", "die", 3)

    assert tree.exit_of("a")["code"] == 3
    tree.ready("a", 2)
    eventually(lambda: not any(map(psutil.pid_exists, left)), "their end and their burial")
    assert tree.zombies() == []


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_kernel_without_memory_ends_children_before_their_supervisor(start, method):
    tree = start({"name": "a"}, method=method)
    child = tree.ready("a")

    def score(pid):
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    others = tree.pids - {child}
    assert tree.process.pid in others
    assert all(score(child) > score(pid) for pid in others)


def test_a_child_that_never_starts_is_tried_again_and_makes_the_tree_fail(start):
    tree = start({"name": "a", "make": "NeverBorn"}, {"name": "b", "make": "NeverBorn"})

    assert tree.exit_code() == 1
    assert len(tree.such("ChildExited", name="a")) >= 3
    assert "none of 2 children became ready in 3 attempts" in tree.log


def test_a_child_that_goes_on_failing_is_degraded_while_the_others_work(start):
    tree = start({"name": "bad", "make": "NeverBorn"}, {"name": "good"})
    tree.ready("good")

    assert tree.until("ChildDegraded", name="bad")["failures"] == 6
    assert tree.ask("good", "hello") == "hello"
    assert tree.stop() == 0


def test_thirty_restarts_leave_no_descriptor_and_no_zombie(start):
    tree = start({"name": "a"}, patient=True)

    def descriptors():
        pids = (tree.process.pid, tree.fork_server.pid)
        return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids]

    def restart(incarnation):
        tree.ready("a", incarnation)
        tree.tell("a", "die", 1)
        tree.ready("a", incarnation + 1)

    restart(1)
    before = descriptors()
    for incarnation in range(2, 32):
        restart(incarnation)

    eventually(lambda: descriptors() <= before, f"as few descriptors as before: {before}, now {descriptors()}")
    assert tree.zombies() == []


def test_a_tree_with_nothing_to_do_does_nothing(start):
    tree = start({"name": "a"}, {"name": "b"})
    tree.until("TreeReady")
    processes = [psutil.Process(pid) for pid in tree.pids]

    def used():
        return sum(times.user + times.system for times in (process.cpu_times() for process in processes))

    tree.until("ChildBeat", times=2)
    before = used()
    with pytest.raises(subprocess.TimeoutExpired):
        tree.process.wait(2.0)

    assert used() - before < 0.01 * 2.0 * len(processes)
