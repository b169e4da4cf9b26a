import ast
import sys

import pytest

from load_tests.bench import contender, environment
from load_tests.bench.catalogue import scenarios
from load_tests.bench.others import WAYS
from load_tests.bench.stores import BACKENDS


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
