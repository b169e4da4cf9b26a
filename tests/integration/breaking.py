"""A run under no fault, of a store that breaks a promise: ``python -m tests.integration.breaking WAY REPORT``."""

import json
import sys
from pathlib import Path

from load_tests.chaos.conductor import conduct
from load_tests.chaos.run import Run
from load_tests.chaos.scenario import Scenario

PASSED = "seconds that have passed"


def wait(run: Run) -> None:
    run.pass_time(run.seconds)
    run.bit(PASSED, int(run.seconds))


if __name__ == "__main__":
    way, report = sys.argv[1:]
    backend = {"BACKEND": "tests.integration.broken.Backend", "OPTIONS": {"WAY": way}}
    scenario = Scenario(
        name=way,
        faults=(),
        sentence="Do nothing.",
        inject=wait,
        bites=(PASSED,),
        settings={"TASKS": {"default": backend}},
    )
    Path(report).write_text(json.dumps(conduct(scenario, "sqlite", seed=7, seconds=3.0)))
