"""A run of a store that breaks a promise: ``python -m tests.integration.breaking WAY REPORT [OUTAGE]``.

It is under no fault, or as if the store were out of reach from its beginning to its end.
"""

import json
import sys
from pathlib import Path

from load_tests import endings
from load_tests.chaos.account import Fault
from load_tests.chaos.conductor import conduct
from load_tests.chaos.queues import EVER
from load_tests.chaos.run import Run
from load_tests.chaos.scenario import Scenario

PASSED = "seconds that have passed"
UNREACHABLE = 31

CROWDED = "Crowds"
"""The way that is one of workers, not of stores: one runs more at once than it is thought to."""


def wait(run: Run) -> None:
    if run.scenario.name == CROWDED:
        run.worker("--processes", "1", "--concurrency", "64")
        run.occupy(60, 1.0)
    run.pass_time(run.seconds)
    if UNREACHABLE in run.scenario.faults:
        run.faults.append(Fault("outage", 0.0, EVER))
    run.bit(PASSED, int(run.seconds))


if __name__ == "__main__":
    endings.in_good_order()
    way, report, *outage = sys.argv[1:]
    of_store = "Honest" if way == CROWDED else way
    backend = {"BACKEND": "tests.integration.broken.Backend", "OPTIONS": {"WAY": of_store}}
    scenario = Scenario(
        name=way,
        faults=(UNREACHABLE,) if outage else (),
        sentence="Do nothing.",
        inject=wait,
        bites=(PASSED,),
        settings={"TASKS": {"default": backend}},
    )
    Path(report).write_text(json.dumps(conduct(scenario, "sqlite", seed=7, seconds=3.0)))
