"""``python -m load_tests chaos``: run scenarios, one after the other, and say what held."""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from load_tests.chaos import (
    actors,
    databases,
    hosts,
    loads,
    namespaces,
    network,
    payloads,
    refusals,
    resources,
    scheduling,
    soak,
    stores,
    tables,
    telling,
    trees,
)  # fmt: skip
from load_tests.chaos.account import Verdict
from load_tests.chaos.scenario import EVERYWHERE, SCENARIOS

MODULES = (
    actors, databases, hosts, loads, namespaces, network, payloads, refusals, resources, scheduling, stores, telling,
    trees,
)  # fmt: skip
"""Whose import is what fills SCENARIOS."""
LONGEST = 300.0
CI: tuple[tuple[str, str], ...] = (
    ("kill-actor", "valkey"),
    ("kill-all-actors", "sqlite"),
    ("kill-supervisor", "valkey"),
    ("freeze-worker", "postgres"),
    ("deadly-tasks", "mariadb"),
    ("kill-store", "postgres"),
    ("kill-store", "valkey"),
    ("dead-line", "valkey"),
    ("kill-all-connections", "mariadb"),
)


def add_to(commands: Any) -> None:
    """Add the command to those of ``python -m load_tests``."""
    parser = commands.add_parser("chaos", help="put this package under faults")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="may be repeated")
    parser.add_argument("--all", action="store_true", help="all scenarios that apply to the backends")
    parser.add_argument("--ci", action="store_true", help="a few scenarios that take five minutes at most")
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    parser.add_argument("--backend", action="append", choices=sorted(EVERYWHERE), help="may be repeated; default: all")
    parser.add_argument("--seed", type=int, help="of all that chance decides; default: another one each time")
    parser.add_argument("--seconds", type=float, help="of faults in each scenario; default: its own")
    parser.add_argument("--out", type=Path, help="append a line of JSON for each run")
    parser.add_argument("--keep", type=Path, help="a directory for logs and ledgers of what did not hold")
    parser.set_defaults(run=run_chaos)
    soak.add_to(commands)
    report = commands.add_parser("chaos-report", help="print what is in files of chaos --out, as a table")
    report.add_argument("files", type=Path, nargs="+")
    report.add_argument("--summary", action="store_true", help="a row a scenario: the last run on each store, added up")
    report.set_defaults(run=print_report)


def print_report(arguments: argparse.Namespace) -> None:
    """Print a table of reports."""
    reports = [report for file in arguments.files for report in tables.read(file)]
    print((tables.summary if arguments.summary else tables.table)(reports))


def run_chaos(arguments: argparse.Namespace) -> None:
    """Run what is asked for; exit with 1 unless everything held and every fault bit."""
    if arguments.list:
        for scenario in SCENARIOS.values():
            print(f"{scenario.name:24} {', '.join(map(str, scenario.faults)):12} {scenario.sentence}")
        return
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed  # noqa: S311 - no secret
    plan = _plan(arguments)
    if len(plan) == 1:
        reports = [_conduct(*plan[0], seed, arguments)]
    else:
        print(f"{len(plan)} runs, seed {seed}", flush=True)
        reports = [_apart(name, kind, seed, arguments) for name, kind in plan]
        print(tables.table(reports))
    sys.exit(any(report["verdict"] != Verdict.OK for report in reports))


def _plan(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    if arguments.ci:
        return list(CI)
    names = list(SCENARIOS) if arguments.all else arguments.scenario
    if not names:
        sys.exit("Name a scenario, or --all, --ci, --list.")
    kinds = arguments.backend or sorted(EVERYWHERE)
    plan = [(name, kind) for name in names for kind in kinds if kind in SCENARIOS[name].stores]
    return plan or sys.exit("None of these scenarios applies to that backend.")


def _conduct(name: str, kind: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    from load_tests.chaos.conductor import conduct

    scenario = SCENARIOS[name]
    keep = arguments.keep and arguments.keep / f"{name}-{kind}-{seed}"
    report = conduct(scenario, kind, seed=seed, seconds=arguments.seconds or scenario.seconds, keep=keep)
    if arguments.out:
        with arguments.out.open("a") as file:
            file.write(json.dumps(report) + "\n")
    print(tables.line(report), flush=True)
    return report


def _apart(name: str, kind: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one in a process of its own: Django can be set up once only, and nothing shall be left of the last."""
    with tempfile.TemporaryDirectory(prefix="vtasks-chaos-") as directory:
        out = Path(directory) / "report.jsonl"
        command = [sys.executable, "-m", "load_tests", "chaos", "--scenario", name, "--backend", kind]
        command += ["--seed", str(seed), "--out", str(out)]
        command += ["--seconds", str(arguments.seconds)] if arguments.seconds else []
        command += ["--keep", str(arguments.keep)] if arguments.keep else []
        code = _wait(subprocess.Popen(command), LONGEST + (arguments.seconds or 0.0))
        report = tables.read(out)[0] if out.exists() else tables.broken(name, kind, seed, code)
    if arguments.out:
        with arguments.out.open("a") as file:
            file.write(json.dumps(report) + "\n")
    return report


def _wait(process: subprocess.Popen[bytes], timeout: float) -> int:
    """Return the exit code of a run; one that takes too long is told to end, so that it takes its servers along."""
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.terminate()
        return process.wait()
