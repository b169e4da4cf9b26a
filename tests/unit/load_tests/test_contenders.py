import ast
import sys

import pytest

from load_tests.bench import contender, environment
from load_tests.bench.catalogue import scenarios
from load_tests.bench.others import WAYS
from load_tests.bench.stores import BACKENDS
from tests import servers


@pytest.mark.parametrize("name", contender.names())
def test_a_contender_names_only_what_there_is(name):
    found = contender.load(name)
    assert found.name == name
    assert found.backends.keys() <= set(BACKENDS)
    assert found.lacks.keys() <= {*scenarios(), *(f"enqueue {way}" for way in WAYS)}
    assert list(environment.INSIDE.glob(f"{found.module}*"))


@pytest.mark.parametrize("name", contender.names())
def test_a_contender_starts_as_many_processes_as_are_asked_for(name):
    commands = contender.load(name).worker(2, 100, "default")
    assert len(commands) == 2 or any("=2" in word for word in commands[0])
    assert not any("{" in word for command in commands for word in command)


@pytest.mark.parametrize("name", contender.GOALS_ARE_OF)
def test_who_is_in_a_goal_serves_metrics_each_process_of_its_own_on_another_port(name, monkeypatch):
    drawn = iter([11_000, 11_000, 11_001])
    monkeypatch.setattr(servers, "free_port", lambda: next(drawn))
    commands = contender.load(name).worker(2, 100, "default")
    ports = {word for command in commands for word in command if word.startswith("--metrics-port=")}
    assert ports == {f"--metrics-port={11_000 + number}" for number in range(len(commands))}


def test_this_project_and_the_baseline_come_first():
    assert contender.names()[:2] == ["vtasks", contender.BASELINE]


@pytest.mark.parametrize("name", ["recorder.py", "work.py", "produce.py"])
def test_what_all_contenders_share_needs_the_standard_library_only(name):
    tree = ast.parse((environment.INSIDE / name).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    assert modules <= {*sys.stdlib_module_names, "recorder"}


def test_a_contender_that_lacks_something_says_so():
    assert contender.load("celery").excuse("noop", "valkey") == "runs no async def"
    assert contender.load("celery").excuse("noop", "sqlite") == "does not work on sqlite"
    assert contender.load("vtasks").excuse("noop", "sqlite") is None
    assert contender.load("vtasks").excuse("receivers", "sqlite") is None
    assert contender.load("celery").excuse("receivers", "valkey") == "is compared without receivers of signals"
