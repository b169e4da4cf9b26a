"""Run the demo: a worker, some hundred tasks, their progress, and what came of them.

Exit code: 0 when all is as it should be, 1 when something is not, 129 and more when a signal ends it.
"""

import argparse
import signal
import sys
from typing import Any, NoReturn

from django.conf import settings
from django.core.management import call_command

from tour.processes import SIGNALS, InUse, fresh
from tour.show import show
from tour.site import serve


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", action="store_true", help="keep the worker and a web page running until Ctrl-C")
    parser.add_argument("--deadline", type=float, default=60.0, metavar="S", help="seconds for all tasks (%(default)g)")
    options = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace", line_buffering=True)  # type: ignore[union-attr]
    for number in SIGNALS:
        signal.signal(number, _unwind)
    try:
        with fresh(settings.VAR) as processes:
            call_command("migrate", verbosity=0)
            return serve(processes) if options.serve else show(processes, options.deadline)
    except InUse as error:
        print(error, file=sys.stderr)
        return 1


def _unwind(number: int, frame: Any) -> NoReturn:
    """End once; what follows has its own time limits and is not to be disturbed."""
    for further in SIGNALS:
        signal.signal(further, signal.SIG_IGN)
    raise SystemExit(128 + number)
