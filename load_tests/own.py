"""The scenarios of this package alone: what the figures of its docs and decisions come from."""

import argparse
import platform
import statistics
import sys
from importlib.metadata import version

from load_tests import clearing, metering, periodic, scenarios, stage, tree
from load_tests.bench import machine, results
from load_tests.scenarios import Figures

SCENARIOS = scenarios.SCENARIOS | tree.SCENARIOS | periodic.SCENARIOS | clearing.SCENARIOS | metering.SCENARIOS
SMALL = 100
COUNT = 50_000


def run(arguments: argparse.Namespace) -> None:
    """Run each scenario ``--repeat`` times on a fresh server; print medians with minimum and maximum."""
    names = list(SCENARIOS) if arguments.scenarios == ["own"] else arguments.scenarios
    unknown = set(names) - SCENARIOS.keys()
    if unknown:
        sys.exit(f"Unknown scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}.")
    if len(arguments.backend or []) > 1:
        sys.exit("These scenarios take one backend at a time.")
    (backend,) = arguments.backend or ["sqlite"]
    versions = {name: version(name) for name in ("django-vtasks", "django")} | {"python": platform.python_version()}
    durable = " durable" if arguments.durable else ""
    print(", ".join(map(" ".join, versions.items())), f"{platform.machine()}, {backend}{durable}", sep=", ")
    began = machine.now()
    with stage.backend(backend, durable=arguments.durable) as settings:
        stage.set_up(settings)
        for name in names:
            runs = []
            for repetition in range(arguments.repeat):
                yardstick = stage.yardstick(settings)
                line = results.Line(
                    scenario=name,
                    contender="vtasks",
                    backend=backend,
                    run=began,
                    repetition=repetition,
                    durable=arguments.durable,
                    count=arguments.count or COUNT,
                    yardstick=yardstick,
                    versions=versions,
                    commit=machine.commit(),
                    machine=machine.describe(),
                    time=machine.now(),
                )
                figures = SCENARIOS[name](line.count)
                line.figures.update(figures)
                runs.append(figures | yardstick)
                if arguments.out:
                    results.append(arguments.out, line)
            print(f"{name:16}", " · ".join(_summary(figure, runs) for figure in runs[0]), flush=True)


def _summary(figure: str, runs: list[Figures]) -> str:
    values = [run[figure] for run in runs]
    median, low, high = (_number(value) for value in (statistics.median(values), min(values), max(values)))
    return f"{figure}: {median} ({low}-{high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= SMALL else f"{value:.3g}"
