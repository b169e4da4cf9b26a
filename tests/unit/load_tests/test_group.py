"""What ``script/bench`` installs, the dependency group `bench`, is enough."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib

from load_tests.bench import contender
from load_tests.bench.environment import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS = PROJECT["dependency-groups"]
# Modules that take Django that is set up, or are for other environments.
NOT_HERE = ("bench.inside", "chaos", "settings", "apps", "tasks", "named")
IMPORT_ALL = f"""
import importlib, pkgutil, sys

for name in sys.argv[1:]:
    sys.modules[name] = None  # as if it were not installed

import load_tests.__main__

for module in pkgutil.walk_packages(load_tests.__path__, "load_tests."):
    if not module.name.removeprefix("load_tests.").startswith({NOT_HERE!r}):
        importlib.import_module(module.name)
"""


def distribution(requirement):
    """Return the name in a requirement, in the one of its spellings that counts."""
    name, *_ = re.split(r"[^\w.-]", requirement)
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions(requirements):
    return {distribution(text) for text in requirements if isinstance(text, str)}


def test_the_command_needs_nothing_that_only_tests_have():
    there = distributions([*GROUPS["bench"], *PROJECT["project"]["dependencies"]])
    others = distributions(text for group in GROUPS.values() for text in group) - there
    installed = importlib.metadata.packages_distributions()
    modules = [name for name, of in installed.items() if others & distributions(of)]
    assert "pytest" in modules

    command = [sys.executable, "-c", IMPORT_ALL, *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_workers_of_its_own_scenarios_have_what_those_of_the_contender_have():
    [requirement] = contender.load("vtasks").requirements
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = {text for name in requirement.rpartition("[")[2].rstrip("]").split(",") for text in extras[name]}

    assert wanted <= set(GROUPS["bench"])
