"""The scenarios of this package alone: what the figures of its docs and decisions come from."""

import argparse
import platform
import random
import statistics
import sys
from importlib.metadata import version

from load_tests import clearing, metering, periodic, scenarios, stage, tree, yardsticks
from load_tests.arguments import seed_of
from load_tests.bench import machine, results
from load_tests.figures import number
from load_tests.lines import append
from load_tests.scenarios import Figures

SCENARIOS = scenarios.SCENARIOS | tree.SCENARIOS | periodic.SCENARIOS | clearing.SCENARIOS | metering.SCENARIOS
COUNT = 50_000
BACKEND = "sqlite"
"""Where tasks are unless the command line says."""


def run(arguments: argparse.Namespace) -> None:
    """Run each scenario ``--repeat`` times on a fresh server; print medians with minimum and maximum."""
    names = list(SCENARIOS) if arguments.scenarios == ["own"] else arguments.scenarios
    unknown = set(names) - SCENARIOS.keys()
    if unknown:
        sys.exit(
            f"Unknown scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}; "
            "with --scenario, those that contenders are measured in."
        )
    if len(arguments.backend or []) > 1:
        sys.exit("These scenarios take one backend at a time.")
    (backend,) = arguments.backend or [BACKEND]
    versions = {name: version(name) for name in ("django-vtasks", "django")} | {"python": platform.python_version()}
    began = machine.now()
    seed = seed_of(arguments.seed)
    durable = " durable" if arguments.durable else ""
    print(
        ", ".join(map(" ".join, versions.items())), f"{platform.machine()}, {backend}{durable}, seed {seed}", sep=", "
    )
    with stage.backend(backend, durable=arguments.durable) as settings:
        stage.set_up(settings)
        server = stage.server(settings)
        for name in names:
            runs = []
            for repetition in range(arguments.repeat):
                yardstick = yardsticks.of(settings)
                line = results.Line(
                    scenario=results.OWN + name,
                    contender="vtasks",
                    backend=backend,
                    run=began,
                    repetition=repetition,
                    durable=arguments.durable,
                    count=arguments.count or COUNT,
                    server=server,
                    yardstick=yardstick,
                    versions=versions,
                    commit=machine.commit(),
                    seed=seed + repetition,
                    machine=machine.describe(),
                    time=machine.now(),
                )
                random.seed(line.seed)
                others = machine.Others()
                figures = SCENARIOS[name](line.count)
                line.figures.update(figures)
                line.foreign = others.cores()
                runs.append(figures | yardstick)
                if arguments.out:
                    append(arguments.out, line.to_json())
            print(f"{name:16}", " · ".join(_summary(figure, runs) for figure in runs[0]), flush=True)


def _summary(figure: str, runs: list[Figures]) -> str:
    values = [run[figure] for run in runs]
    median, low, high = (number(value) for value in (statistics.median(values), min(values), max(values)))
    return f"{figure}: {median} ({low}-{high})"
