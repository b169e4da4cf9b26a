"""What children share through the fork server, what they must not see of it, and when they are spawned instead."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.integration.probes import eventually
from tests.integration.supervisor.program import LAUNCH_TIMEOUT
from tests.integration.supervisor.trees import PRELOAD, ROOT

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="forking is safe on Linux only")

WORKERS = [{"name": name} for name in "abc"]
HERE = "tests.integration.supervisor"


def test_children_share_what_the_fork_server_has_imported(start):
    tree = start(*WORKERS)
    tree.until("TreeReady")
    answers = [tree.ask(name, "imported_by") for name in "abc"]

    assert answers == [[tree.fork_server.pid, True]] * 3
    assert "WARNING" not in tree.log


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("no.such.module", "no.such.module cannot be imported: ModuleNotFoundError: No module named 'no'"),
        (f"{HERE}.threaded_preload", "an import has started the thread 'an-agent'"),
        (f"{HERE}.deadly_preload", "the fork server does not work"),
    ],
)
def test_children_are_spawned_where_forking_is_not_safe_and_one_warning_says_why(start, module, reason):
    tree = start(*WORKERS, preload=[PRELOAD, module])
    tree.until("TreeReady")
    pids = {name: tree.such("ChildReady", name=name)[-1]["pid"] for name in "abc"}

    assert {name: tree.ask(name, "imported_by") for name in "abc"} == {name: [pid, False] for name, pid in pids.items()}
    (warning,) = [line for line in tree.log.splitlines() if line.startswith("WARNING Actors are spawned")]
    assert reason in warning
    assert tree.stop() == 0


@pytest.mark.parametrize("method", ["copy", "forkserver", "spawn"])
@pytest.mark.parametrize("path", ["/some/where", None])
def test_children_see_nothing_of_how_they_were_started(start, method, path):
    tree = start({"name": "a"}, method=method, **({} if path is None else {"PYTHONPATH": path}))
    tree.ready("a")
    environment = tree.ask("a", "environ")

    assert environment.get("PYTHONPATH") == path
    assert "VTASKS_SUPERVISOR_PRELOAD" not in environment


def unlink_socket_of(server):
    (address,) = {connection.laddr for connection in server.net_connections("unix") if connection.laddr}
    Path(address).unlink()


def test_a_fork_server_that_cannot_be_reached_any_more_is_followed_by_another(start):
    tree = start({"name": "a"}, {"name": "b"}, patient=True)
    tree.until("TreeReady")
    first = tree.fork_server.pid
    unlink_socket_of(tree.fork_server)
    tree.tell("a", "die", 3)
    assert tree.exit_of("a")["code"] == 3
    assert tree.exit_of("a", 2)["cause"] == "NOT_STARTED"
    tree.ready("a", 3)
    parent, shares = tree.ask("a", "imported_by")

    assert shares
    assert parent not in {first, tree.process.pid}
    assert tree.log.count("The fork server cannot be reached any more") == 1
    tree.tell("b", "die", 4)
    assert tree.exit_of("b")["code"] == 4
    tree.ready("b", 2)
    eventually(lambda: not psutil.pid_exists(first), "the end of the first one with its last child, and its burial")
    assert tree.stop() == 0


@pytest.mark.parametrize("method", ["copy", "forkserver"])
def test_a_fork_server_that_answers_no_more_is_killed_and_followed_by_another(start, method):
    tree = start(*WORKERS, method=method, patient=True, **{LAUNCH_TIMEOUT: "4"})
    tree.until("TreeReady")
    first = psutil.Process(psutil.Process(tree.ready("a")).ppid())
    assert first.pid != tree.process.pid
    first.suspend()
    for name in "ab":
        tree.tell(name, "die", 3)
    parents = set()
    for name in "ab":
        tree.until("ChildReady", 2, name=name)
        parent, shares = tree.ask(name, "imported_by")
        assert shares
        parents.add(parent)

    causes = [event["exit"]["cause"] for event in tree.such("ChildExited")]
    assert causes.count("NOT_STARTED") == 1, "one start finds out for all"
    assert len(parents) == 1
    assert not parents & {first.pid, tree.process.pid}
    eventually(lambda: not psutil.pid_exists(first.pid), "the end of the first one, and its burial")
    assert tree.log.count("The fork server cannot be reached any more") == 1
    assert "Actors are spawned" not in tree.log
    tree.tell("c", "die", 4)
    assert tree.exit_of("c")["code"] == 4
    tree.ready("c", 2)
    assert tree.stop() == 0


def test_a_fork_server_that_never_answered_is_killed_and_children_are_spawned(start):
    tree = start({"name": "a"}, preload=[f"{HERE}.slow_preload"], patient=True, **{LAUNCH_TIMEOUT: "4"})
    tree.is_waiting()
    first = tree.fork_server.pid
    tree.until("ChildReady", name="a")

    assert tree.such("ChildExited", name="a")[0]["exit"]["cause"] == "NOT_STARTED"
    assert tree.log.count("the fork server does not work: TimeoutError") == 1
    eventually(lambda: not psutil.pid_exists(first), "the end of the fork server, and its burial")
    assert tree.stop() == 0


@pytest.mark.parametrize("preparation", ["copy_this_process", "warm_up"])
@pytest.mark.parametrize(
    ("directory", "reason"), [("/no/such/directory", "FileNotFoundError"), (None, "AF_UNIX path too long")]
)
def test_children_are_spawned_where_a_fork_server_cannot_have_its_socket(tmp_path, preparation, directory, reason):
    if directory is None:
        directory = tmp_path / ("long" * 30)
        directory.mkdir()
    program = f"""
import tempfile
from vtasks_supervisor import Launcher, preload
tempfile.tempdir = {str(directory)!r}
launcher = Launcher()
launcher.{preparation}()
print(launcher.method, preload.loaded)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.stdout == "spawn False\n", done.stderr
    assert reason in done.stderr
