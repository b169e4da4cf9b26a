"""``python -m load_tests COMMAND``: what this package and its peers can do, measured; what it stands, tried."""

import argparse
import sys

from load_tests import endings, own
from load_tests.arguments import count
from load_tests.bench import command
from load_tests.bench.stores import BACKENDS, DURABLE
from load_tests.chaos import command as chaos
from load_tests.report import command as report


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m load_tests", description=__doc__)
    commands = parser.add_subparsers(required=True)
    bench = commands.add_parser(
        "bench", help="measure this package beside others, or what is named of the scenarios of its own"
    )
    bench.add_argument(
        "scenarios",
        nargs="*",
        metavar="OWN",
        help="a scenario of this package alone, `own` for all: "
        f"{', '.join(own.SCENARIOS)}; without: contenders side by side",
    )
    bench.add_argument(
        *("--backend", "--database"),
        action="append",
        choices=BACKENDS,
        help=f"where tasks are; for contenders it may be repeated (default: {command.BACKEND}; own: {own.BACKEND})",
    )
    bench.add_argument("--count", type=count, help="tasks of a scenario (default: what takes --seconds; own: 50,000)")
    bench.add_argument("--repeat", type=count, default=3, help="repetitions; medians count (default: 3)")
    bench.add_argument("--seed", type=int, help="of what is random: a payload's text, who is killed (default: any)")
    bench.add_argument(
        "--durable", action="store_true", help=f"let the server ({', '.join(DURABLE)}) wait for the disk, as shipped"
    )
    command.add_arguments(bench)
    bench.set_defaults(run=_bench)
    of_results = commands.add_parser("report", help="make tables, plots and a page of results")
    report.add_arguments(of_results)
    of_results.set_defaults(run=report.run)
    chaos.add_to(commands)
    arguments = parser.parse_args()
    arguments.run(arguments)


def _bench(arguments: argparse.Namespace) -> None:
    backends = arguments.backend or [own.BACKEND if arguments.scenarios else command.BACKEND]
    if arguments.durable and (others := [name for name in backends if name not in DURABLE]):
        sys.exit(f"--durable: {', '.join(others)} is not made to wait for the disk here, {' and '.join(DURABLE)} are.")
    if not arguments.scenarios:
        command.run(arguments)
    elif given := command.given(arguments):
        sys.exit(f"{', '.join(given)}: for contenders side by side, not for scenarios of this package alone.")
    else:
        own.run(arguments)


if __name__ == "__main__":
    endings.in_good_order()
    main()
