import pytest

from load_tests.bench import command
from tests.unit.load_tests.lines import line


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "tasks/s 5"),
        ({"missing": None}, "tasks/s 5, cut short"),
        ({"missing": 2}, "tasks/s 5, INVALID: 2 tasks missing, 0 doubled"),
        ({"skipped": "has no batches"}, "– has no batches"),
    ],
)
def test_each_line_is_told_with_what_is_wrong_with_it(values, said):
    assert command._told(line(5, **values)).endswith(said)
