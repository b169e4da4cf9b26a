"""``python -m load_tests soak``: a steady load for long, with kills and recycling, and what grows meanwhile."""

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from load_tests.arguments import at_least, positive, seed_of
from load_tests.chaos import conductor, samples, slopes, tables
from load_tests.chaos.account import Verdict
from load_tests.chaos.run import Run
from load_tests.chaos.scenario import EVERYWHERE, KILLED, Bounds, Scenario
from load_tests.chaos.slopes import Trend
from load_tests.lines import append

SAMPLE_EVERY = 5.0
KILL_EVERY = (15.0, 45.0)
RECYCLE_EVERY = (60.0, 120.0)
WARM_UP = 120.0
"""Seconds after which samples count, if the time is long enough: caches and pools have filled by then."""
FAILURES = 2
"""Tasks that fail before each sample; their list is full before samples count."""
FAILED_CAP = 10
FAILED = "tasks that failed"
REPLACED = "times all actors were replaced"
TICK = {"task": "load_tests.chaos.tasks.tick", "schedule": 2, "args": ["tick"]}
MINUTE = 60.0
STEADY = 0.9
"""The part of the rate that is asked for at which calls must be made: a load that falls behind shows less."""
SHORTEST = 2.5
"""Minutes in which all actors are replaced once for sure, and looked at afterwards."""


class Endurance:
    """Samples, kills and recycles until the time is over."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.samples: list[dict[str, float]] = []

    def __call__(self, run: Run) -> None:
        """Disturb and look."""
        from tests.workapp import tasks

        began = time.monotonic()
        kill_at, recycle_at = (began + run.chance.uniform(*span) for span in (KILL_EVERY, RECYCLE_EVERY))
        while (now := time.monotonic()) < began + run.seconds:
            if now >= kill_at and (actors := list(run.actors().values())):
                run.kill(run.chance.choice(actors))
                kill_at = now + run.chance.uniform(*KILL_EVERY)
            if now >= recycle_at:
                run.workers[0].send(signal.SIGHUP)
                run.bit(REPLACED)
                recycle_at = now + run.chance.uniform(*RECYCLE_EVERY)
            for _ in range(FAILURES):
                tasks.fail.enqueue("ValueError")
            run.bit(FAILED, FAILURES)
            run.pass_time(SAMPLE_EVERY)  # so that what is looked at is not what has just been disturbed
            self.times.append(time.monotonic() - began)
            self.samples.append(samples.sample(run))
            run.bit("samples")
        run.facts["calls per second"] = pace = round(run.ledger.count("try") / (time.monotonic() - began), 1)
        run.expect(pace >= STEADY * run.scenario.rate, f"{pace:g} calls a second were made, not {run.scenario.rate:g}")
        for name, found in self.slopes().items():
            run.expect(
                found.trend is not Trend.GROWS, f"{name} grows by {found.per_hour:.3g} ± {found.error:.2g} an hour"
            )

    def slopes(self) -> dict[str, slopes.Slope]:
        """Return how each figure has changed since it was warm."""
        since = min(WARM_UP, self.times[-1] / 2)
        warm = sum(at < since for at in self.times)
        names = self.samples[0]
        return {
            name: slopes.slope(self.times[warm:], [sample[name] for sample in self.samples[warm:]]) for name in names
        }

    def table(self) -> str:
        """Return the slopes as a table in Markdown."""
        lines = ["| figure | mean | change per hour | ± | |", "| --- | --- | --- | --- | --- |"]
        for name, found in self.slopes().items():
            lines.append(f"| {name} | {found.mean:.4g} | {found.per_hour:+.3g} | {found.error:.2g} | {found.trend} |")
        return "\n".join(lines)


def add_to(commands: Any) -> None:
    """Add the command to those of ``python -m load_tests``."""
    parser = commands.add_parser("soak", help="look for what grows")
    parser.add_argument("--minutes", type=at_least(SHORTEST), default=20.0, help=f"{SHORTEST:g} at least (default: 20)")
    parser.add_argument("--backend", choices=sorted(EVERYWHERE), default="valkey", help="default: valkey")
    parser.add_argument("--rate", type=positive, default=200.0, help="tasks per second (default: 200)")
    parser.add_argument("--seed", type=int, help="of all that chance decides (default: another one each time)")
    parser.add_argument("--out", type=Path, help="append a line of JSON, with all samples")
    parser.add_argument("--keep", type=Path, help="a directory for logs and ledger if something did not hold")
    parser.set_defaults(run=run_soak)


def run_soak(arguments: argparse.Namespace) -> None:
    """Run it, print what was found, and exit with 1 unless all held."""
    endurance = Endurance()
    scenario = Scenario(
        name="soak",
        faults=(74,),
        sentence="Keep up a steady load with kills and recycling.",
        inject=endurance,
        bites=(KILLED, REPLACED, FAILED, "samples"),
        rate=arguments.rate,
        options=("--processes", "2", "--concurrency", "20", "--scheduler", "--metrics-port", "0"),
        bounds=Bounds(again=5.0),
        settings={"VTASKS_SCHEDULE": {"tick": TICK}, "VTASKS_DLQ_CAP": FAILED_CAP},
    )
    seed = seed_of(arguments.seed)
    report = tables.without_end(scenario.name, arguments.backend, seed, "it was broken off")
    try:
        seconds = MINUTE * arguments.minutes
        report = conductor.conduct(scenario, arguments.backend, seed=seed, seconds=seconds, keep=arguments.keep)
        print(tables.line(report), endurance.table(), *tables.origins([report]), sep="\n", flush=True)
    finally:
        if arguments.out:
            append(arguments.out, json.dumps(report | {"times": endurance.times, "samples": endurance.samples}))
    sys.exit(report["verdict"] != Verdict.OK)
