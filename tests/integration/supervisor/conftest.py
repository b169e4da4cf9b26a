"""Trees that end with their test."""

import contextlib

import pytest

from tests.integration.supervisor.trees import PRELOAD, RunningTree


@pytest.fixture
def start(tmp_path):
    """Give a function that starts a tree of the given specs, which are JSON."""
    with contextlib.ExitStack() as stack:
        count = 0

        def start(*specs, preload=(PRELOAD,), method=None, patient=False, **environment):
            nonlocal count
            count += 1
            directory = tmp_path / str(count)
            directory.mkdir()
            tree = RunningTree(
                directory, *specs, preload=preload, method=method, patient=patient, environment=environment
            )
            stack.callback(tree.end)
            tree.until("Running")
            return tree

        yield start
