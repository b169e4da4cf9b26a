"""Lines of results for tests of what is made of them."""

from typing import Any

from load_tests.bench.contender import BASELINE
from load_tests.bench.results import Line


def line(value, *, contender="vtasks", scenario="noop", backend="valkey", figure="tasks/s", **more):
    values: dict[str, Any] = {"missing": 0, "doubled": 0, "run": "now", "time": "now"} | more
    return Line(scenario=scenario, contender=contender, backend=backend, figures={figure: value}, **values)


def both(ours, theirs, **more):
    """Return a line of each repetition of us and of the baseline."""
    return [
        line(value, contender=contender, repetition=repetition, **more)
        for contender, values in (("vtasks", ours), (BASELINE, theirs))
        for repetition, value in enumerate(values)
    ]
