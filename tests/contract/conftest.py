"""The behaviours live in modules that pytest does not collect; their asserts explain themselves all the same."""

import pytest

pytest.register_assert_rewrite(
    "tests.contract.behaviours", "tests.contract.database", "tests.contract.steps", "tests.contract.valkey"
)
