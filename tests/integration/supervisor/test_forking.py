"""What children share through the fork server, what they must not see of it, and when they are spawned instead."""

import pytest

from tests.integration.supervisor.trees import PRELOAD

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


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("path", ["/some/where", None])
def test_children_see_nothing_of_how_they_were_started(start, method, path):
    tree = start({"name": "a"}, method=method, **({} if path is None else {"PYTHONPATH": path}))
    tree.ready("a")
    environment = tree.ask("a", "environ")

    assert environment.get("PYTHONPATH") == path
    assert "VTASKS_SUPERVISOR_PRELOAD" not in environment
