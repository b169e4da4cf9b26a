"""``python -m load_tests chaos``: run scenarios, one after the other, and say what held."""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from load_tests.arguments import positive, seed_of
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
from load_tests.lines import append

MODULES = (
    actors, databases, hosts, loads, namespaces, network, payloads, refusals, resources, scheduling, stores, telling,
    trees,
)  # fmt: skip
"""Whose import is what fills SCENARIOS."""
LONGEST = 300.0
GRACE = 60.0
"""Seconds for a run that is told to end, in which it ends its workers and its server."""
CI_SECONDS = 300.0
"""What all of CI may take together."""
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
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--scenario", action="append", choices=SCENARIOS, help="may be repeated")
    what.add_argument("--all", action="store_true", help="all scenarios that apply to the backends")
    what.add_argument("--ci", action="store_true", help="a few scenarios that take five minutes at most")
    what.add_argument("--list", action="store_true", help="name the scenarios")
    parser.add_argument("--backend", action="append", choices=sorted(EVERYWHERE), help="may be repeated; default: all")
    parser.add_argument("--seed", type=int, help="of all that chance decides; default: another one each time")
    parser.add_argument(
        "--seconds", type=positive, help="of faults, where a scenario goes on for a time; default: its own"
    )
    parser.add_argument("--out", type=Path, help="append a line of JSON for each run")
    parser.add_argument("--keep", type=Path, help="a directory for logs and ledgers of what did not hold")
    parser.set_defaults(run=run_chaos, refuse=parser.error)
    soak.add_to(commands)
    report = commands.add_parser("chaos-report", help="print what is in files of chaos --out, as a table")
    report.add_argument("files", type=Path, nargs="+", metavar="JSONL", help="what `chaos --out` has written")
    report.add_argument("--summary", action="store_true", help="a row a scenario: the last run on each store, added up")
    report.set_defaults(run=print_report)


def print_report(arguments: argparse.Namespace) -> None:
    """Print a table of reports."""
    try:
        reports = [report for file in arguments.files for report in tables.read(file)]
    except tables.NoReports as error:
        sys.exit(str(error))
    print((tables.summary if arguments.summary else tables.table)(reports))


def run_chaos(arguments: argparse.Namespace) -> None:
    """Run what is asked for; exit with 1 unless everything held and every fault bit."""
    if arguments.list:
        for scenario in SCENARIOS.values():
            print(f"{scenario.name:24} {', '.join(map(str, scenario.faults)):12} {scenario.sentence}")
        return
    seed = seed_of(arguments.seed)
    plan = _plan(arguments)
    if len(plan) == 1:
        reports = [_conduct(*plan[0], seed, arguments)]
    else:
        print(f"{len(plan)} runs, seed {seed}", flush=True)
        deadline = time.monotonic() + (CI_SECONDS if arguments.ci else float("inf"))
        reports = [_apart(name, kind, seed, arguments, deadline) for name, kind in plan]
        print(tables.table(reports))
    sys.exit(any(report["verdict"] != Verdict.OK for report in reports))


def _plan(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    if arguments.ci:
        if arguments.backend or arguments.seconds:
            arguments.refuse("--ci has its own backends and times: leave out --backend and --seconds")
        return list(CI)
    names = list(SCENARIOS) if arguments.all else arguments.scenario
    kinds = arguments.backend or sorted(EVERYWHERE)
    plan = [(name, kind) for name in names for kind in kinds if kind in SCENARIOS[name].stores]
    return plan or sys.exit("None of these scenarios applies to that backend.")


def _conduct(name: str, kind: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    from load_tests.chaos.conductor import conduct

    scenario = SCENARIOS[name]
    keep = arguments.keep and arguments.keep / f"{name}-{kind}-{seed}"
    if lacking := scenario.lacking:
        report = tables.without_end(name, kind, seed, f"this machine lacks {', '.join(lacking)}", Verdict.LACKING)
    else:
        report = conduct(scenario, kind, seed=seed, seconds=arguments.seconds or scenario.seconds, keep=keep)
    print(tables.line(report), flush=True)
    if arguments.out:
        append(arguments.out, json.dumps(report))
    return report


def _apart(name: str, kind: str, seed: int, arguments: argparse.Namespace, deadline: float) -> dict[str, Any]:
    """Run one in a process of its own: Django can be set up once only, and nothing shall be left of the last."""
    patience = min(LONGEST + (arguments.seconds or 0.0), deadline - time.monotonic())
    with tempfile.TemporaryDirectory(prefix="vtasks-chaos-") as directory:
        out = Path(directory) / "report.jsonl"
        command = [sys.executable, "-m", "load_tests", "chaos", "--scenario", name, "--backend", kind]
        command += ["--seed", str(seed), "--out", str(out)]
        command += ["--seconds", str(arguments.seconds)] if arguments.seconds else []
        command += ["--keep", str(arguments.keep)] if arguments.keep else []
        problem = _run(command, patience)
        report = tables.read(out)[0] if out.exists() else tables.without_end(name, kind, seed, problem)
    if arguments.out:
        append(arguments.out, json.dumps(report))
    return report


def _run(command: list[str], patience: float) -> str:
    """Run a command; return what there is to say of its end if it has made no report."""
    if patience <= 0:
        return "no time was left for it"
    process = subprocess.Popen(command)
    try:
        return f"the run itself broke, exit code {process.wait(patience)}"
    except subprocess.TimeoutExpired:
        return f"the run had not ended after {patience:.0f} s"
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Tell a run to end, so that it takes its servers along, and then make it, with all that it has started."""
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        root = psutil.Process(process.pid)
        for one in (*root.children(recursive=True), root):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()
