"""``python -m load_tests bench``: run scenarios and print their figures, one line each."""

import argparse
import platform
import statistics
import sys
from importlib.metadata import version

from load_tests import clearing, metering, periodic, scenarios, stage, tree
from load_tests.scenarios import Figures

SCENARIOS = scenarios.SCENARIOS | tree.SCENARIOS | periodic.SCENARIOS | clearing.SCENARIOS | metering.SCENARIOS
SMALL = 100


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m load_tests", description=__doc__)
    commands = parser.add_subparsers(required=True)
    bench = commands.add_parser("bench", help="measure this package")
    bench.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; default: all")
    bench.add_argument("--backend", "--database", choices=["sqlite", "postgres", "mariadb", "valkey"], default="sqlite")
    bench.add_argument("--count", type=int, default=50_000, help="tasks of a scenario (default: 50,000)")
    bench.add_argument("--repeat", type=int, default=3, help="repetitions; medians are printed (default: 3)")
    bench.add_argument("--durable", action="store_true", help="let the server wait for the disk, as shipped")
    bench.set_defaults(run=run_bench)
    arguments = parser.parse_args()
    arguments.run(arguments)


def run_bench(arguments: argparse.Namespace) -> None:
    """Run each scenario ``--repeat`` times on a fresh server; print medians with minimum and maximum."""
    unknown = set(arguments.scenarios) - SCENARIOS.keys()
    if unknown:
        sys.exit(f"Unknown scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}.")
    versions = ", ".join(f"{name} {version(name)}" for name in ("django-vtasks", "django"))
    durable = " durable" if arguments.durable else ""
    print(f"{versions}, Python {platform.python_version()}, {platform.machine()}, {arguments.backend}{durable}")
    with stage.backend(arguments.backend, durable=arguments.durable) as settings:
        stage.set_up(settings)
        for name in arguments.scenarios or SCENARIOS:
            runs = [SCENARIOS[name](arguments.count) | stage.yardstick(settings) for _ in range(arguments.repeat)]
            print(f"{name:16}", " · ".join(_summary(figure, runs) for figure in runs[0]), flush=True)


def _summary(figure: str, runs: list[Figures]) -> str:
    values = [run[figure] for run in runs]
    median, low, high = (_number(value) for value in (statistics.median(values), min(values), max(values)))
    return f"{figure}: {median} ({low}-{high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= SMALL else f"{value:.3g}"


if __name__ == "__main__":
    main()
